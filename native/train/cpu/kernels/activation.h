// Activations and their derivatives.
#pragma once

#include "train/cpu/kernels/rows.h"

namespace {

using matryoshka::train::Activate;
using matryoshka::train::ActivateBackward;

struct ValueAndSlope {
  Simd::F value, slope;
};

/// x Φ(x) and Φ(x) + x φ(x).
inline ValueAndSlope gelu_and_slope(Simd::F x) {
  const Simd::F below = normal_distribution(x);
  const Simd::F density = Simd::mul(exp2<true>(Simd::mul(Simd::mul(x, x), Simd::set(-0.5f * kLog2e))), Simd::set(0.398942280f));
  return {Simd::mul(x, below), Simd::fma(x, density, below)};
}

/// x s and s + x s (1 - s) 2 z' with s = sigmoid(2 z), z = sqrt(2/π) (x + 0.044715 x³).
inline ValueAndSlope gelu_tanh_and_slope(Simd::F x) {
  const Simd::F one = Simd::set(1.f), square = Simd::mul(x, x);
  const Simd::F inner = Simd::mul(x, Simd::fma(square, Simd::set(0.044715f), one));
  const Simd::F power = Simd::min(Simd::mul(inner, Simd::set(-2 * 0.797884561f * kLog2e)), Simd::set(126.f));
  const Simd::F s = Simd::div(one, Simd::add(one, exp2<true>(power)));
  const Simd::F twice = Simd::mul(Simd::fma(square, Simd::set(3 * 0.044715f), one), Simd::set(2 * 0.797884561f));
  const Simd::F value = Simd::mul(x, s);
  return {value, Simd::fma(Simd::mul(value, Simd::sub(one, s)), twice, s)};
}

inline ValueAndSlope relu_and_slope(Simd::F x) {
  const Simd::F value = Simd::max(x, Simd::zero());
  return {value, Simd::min(Simd::mul(value, Simd::set(3e38f)), Simd::set(1.f))};
}

void activate_rows(const Activate& a) {
  const bool exact = a.output.element == Element::f32;
  for (int r = 0; r < a.rows; ++r)
    for (int i = 0; i < a.n; i += Simd::width) {
      const Simd::F x = load_row(a.input, r, i, a.n - i);
      store_row(a.output, r, i, exact ? activate<true>(a.function, x) : activate<false>(a.function, x), a.n - i);
    }
}

void activate_backward(const ActivateBackward& a) {
  const auto pass = [&](auto both) {
    for (int r = 0; r < a.rows; ++r)
      for (int i = 0; i < a.n; i += Simd::width) {
        const ValueAndSlope f = both(load_row(a.input, r, i, a.n - i));
        store_row(a.gradient, r, i, Simd::mul(load_row(a.gradient, r, i, a.n - i), f.slope), a.n - i);
        store_row(a.input, r, i, f.value, a.n - i);
      }
  };
  if (a.function == Epilogue::gelu_tanh) pass([](Simd::F x) { return gelu_tanh_and_slope(x); });
  else if (a.function == Epilogue::relu) pass([](Simd::F x) { return relu_and_slope(x); });
  else pass([](Simd::F x) { return gelu_and_slope(x); });
}

}  // namespace
