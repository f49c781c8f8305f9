// exp and the activations as polynomials over vectors.
#pragma once

#include "cpu/kernels/kernels.h"
#include "cpu/kernels/simd.h"

namespace {

using matryoshka::cpu::Epilogue;

constexpr float kLog2e = 1.44269504f;

/// c[0] + c[1] x + … by Horner's rule.
template <int N>
inline Simd::F polynomial(const float (&c)[N], Simd::F x) {
  Simd::F y = Simd::set(c[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) y = Simd::fma(y, x, Simd::set(c[i]));
  return y;
}

/// 2^x for x in [-126, 127], clamped below, by a minimax polynomial of 2^r on [-1/2, 1/2]. Relative error: 1.5 ulp if
/// `exact`, else 1e-4, which is what a result rounded to bf16 can use.
template <bool exact>
inline Simd::F exp2(Simd::F x) {
  static constexpr float full[] = {1.f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647273f};
  static constexpr float brief[] = {1.f, 0.693282902f, 0.242210969f, 0.0550089329f};
  x = Simd::max(x, Simd::set(-126.f));
  const Simd::F n = Simd::round(x), r = Simd::sub(x, n);
  if constexpr (exact) return Simd::scale2(polynomial(full, r), n);
  return Simd::scale2(polynomial(brief, r), n);
}

/// Φ(x) = 1/2 + x P(x²) for |x| <= 5.25, P minimax in x² mapped to [-1, 1]: absolute error <= 1.3e-7.
inline Simd::F normal_distribution(Simd::F x) {
  static constexpr float c[] = {0.13465935f,      -0.067126818f,   0.0496457852f,    -0.0397634134f,  0.0320314392f,
                                   -0.0250419322f,   0.0185386483f,   -0.0127752498f,   0.00841787085f,  -0.00544852018f,
                                   0.00289236149f,   -0.00103953411f, 0.00066473207f,   -0.000656583987f, 0.000239950168f};
  const Simd::F t = Simd::max(Simd::min(x, Simd::set(5.25f)), Simd::set(-5.25f));
  const Simd::F u = Simd::fma(Simd::mul(t, t), Simd::set(2 / (5.25f * 5.25f)), Simd::set(-1.f));
  return Simd::fma(t, polynomial(c, u), Simd::set(0.5f));
}

inline Simd::F gelu_exact(Simd::F x) { return Simd::mul(x, normal_distribution(x)); }

/// max(x, 0) - a Φ(-a) with a = |x|, which vanishes for large a: absolute error <= 2.5e-4, enough for a result that is
/// rounded to 8 bits.
inline Simd::F gelu_brief(Simd::F x) {
  static constexpr float c[] = {-0.497528046f, 0.376833826f, 0.0659350753f, -0.15799655f, 0.0647634342f, -0.0113452878f, 0.000753406552f};
  const Simd::F a = Simd::min(Simd::magnitude(x), Simd::set(3.75f));
  return Simd::fma(polynomial(c, a), a, Simd::max(x, Simd::zero()));
}

/// x / (1 + exp(-2 sqrt(2/π) (x + 0.044715 x³))), which is the tanh form rewritten.
inline Simd::F gelu_tanh(Simd::F x) {
  const Simd::F inner = Simd::mul(x, Simd::fma(Simd::mul(x, x), Simd::set(0.044715f), Simd::set(1.f)));
  const Simd::F power = Simd::mul(inner, Simd::set(-2 * 0.797884561f * kLog2e));
  return Simd::div(x, Simd::add(Simd::set(1.f), exp2<true>(Simd::min(power, Simd::set(126.f)))));
}

template <bool exact>
inline Simd::F activate(Epilogue epilogue, Simd::F x) {
  switch (epilogue) {
    case Epilogue::gelu:
      return exact ? gelu_exact(x) : gelu_brief(x);
    case Epilogue::gelu_tanh:
      return gelu_tanh(x);
    case Epilogue::relu:
      return Simd::max(x, Simd::zero());
    case Epilogue::none:
      break;
  }
  return x;
}

}  // namespace
