// Passes over rows: layer norm after a residual sum or an embedding sum, and conversion to a GEMM's input.
#pragma once

#include "cpu/kernels/math.h"

namespace {

using matryoshka::cpu::Element;
using matryoshka::cpu::EmbedRow;
using matryoshka::cpu::ResidualNorm;
using matryoshka::cpu::Rows2d;
using matryoshka::cpu::StoredRow;
using matryoshka::StoredType;

/// Elements [first, first + n), as many as a vector holds.
inline Simd::F load_stored(const StoredRow& row, int first, int n) {
  switch (row.type) {
    case StoredType::f16:
      return Simd::load_f16(reinterpret_cast<const uint16_t*>(row.data) + first, n);
    case StoredType::bf16:
      return Simd::load_bf16(reinterpret_cast<const uint16_t*>(row.data) + first, n);
    default:
      return Simd::load(reinterpret_cast<const float*>(row.data) + first, n);
  }
}

/// row <- (row - mean) / sqrt(variance + eps) * weight + bias, mean and variance in two passes.
void normalize(float* row, int n, const float* weight, const float* bias, float eps) {
  Simd::F total = Simd::zero();
  for (int i = 0; i < n; i += Simd::width) total = Simd::add(total, Simd::load(row + i, n - i));
  const Simd::F mean = Simd::set(Simd::sum(total) / static_cast<float>(n));
  Simd::F square = Simd::zero();
  for (int i = 0; i < n; i += Simd::width) {
    const Simd::F d = Simd::keep(Simd::sub(Simd::load(row + i, n - i), mean), n - i, Simd::zero());
    square = Simd::fma(d, d, square);
  }
  const Simd::F scale = Simd::set(1 / __builtin_sqrtf(Simd::sum(square) / static_cast<float>(n) + eps));
  for (int i = 0; i < n; i += Simd::width) {
    const Simd::F d = Simd::mul(Simd::sub(Simd::load(row + i, n - i), mean), scale);
    Simd::store(row + i, Simd::fma(d, Simd::load(weight + i, n - i), Simd::load(bias + i, n - i)), n - i);
  }
}

void residual_norm(const ResidualNorm& a) {
  for (int r = 0; r < a.rows; ++r) {
    float* hidden = reinterpret_cast<float*>(a.hidden.row(r));
    const float* branch = reinterpret_cast<const float*>(a.branch.row(r));
    for (int i = 0; i < a.n; i += Simd::width)
      Simd::store(hidden + i, Simd::add(Simd::load(hidden + i, a.n - i), Simd::load(branch + i, a.n - i)), a.n - i);
    normalize(hidden, a.n, a.weight, a.bias, a.eps);
  }
}

void embed_row(const EmbedRow& a) {
  for (int i = 0; i < a.n; i += Simd::width) {
    const int n = a.n - i;
    const Simd::F sum = Simd::add(load_stored(a.word, i, n), load_stored(a.position, i, n));
    Simd::store(a.out + i, Simd::add(sum, load_stored(a.type, i, n)), n);
  }
  normalize(a.out, a.n, a.weight, a.bias, a.eps);
}

/// f32 -> u8 over the row's range widened to hold 0, so that the zero point is a u8 too; stored as what this set multiplies.
template <class S>
void quantize_row(const float* row, int n, std::byte* out, float& scale, int32_t& zero) {
  Simd::F low = Simd::zero(), high = Simd::zero();
  for (int i = 0; i < n; i += Simd::width) {
    const Simd::F x = Simd::load(row + i, n - i);
    low = Simd::min(low, x);
    high = Simd::max(high, x);
  }
  const float bottom = -Simd::largest(Simd::sub(Simd::zero(), low)), range = Simd::largest(high) - bottom;
  const float inverse = range > 0 ? 255 / range : 0;
  scale = range / 255;
  zero = static_cast<int32_t>(0.5f - bottom * inverse);
  const Simd::F factor = Simd::set(inverse), offset = Simd::set(static_cast<float>(zero));
  for (int i = 0; i < n; i += Simd::width) {
    const Simd::F x = Simd::fma(Simd::load(row + i, n - i), factor, offset);
    if constexpr (S::has_u8_dot) S::store_u8(out + i, x, n - i);
    else S::store_u16(out + 2 * i, x, n - i);
  }
}

void convert(int rows, int n, const Rows2d& from, const Rows2d& to) {
  for (int r = 0; r < rows; ++r) {
    const float* row = reinterpret_cast<const float*>(from.row(r));
    if (to.element != Element::bf16) {
      quantize_row<Simd>(row, n, to.row(r), to.scale[r], to.zero[r]);
    } else {
      uint16_t* out = reinterpret_cast<uint16_t*>(to.row(r));
      for (int i = 0; i < n; i += Simd::width) Simd::store_bf16(out + i, Simd::load(row + i, n - i), n - i);
    }
  }
}

}  // namespace
