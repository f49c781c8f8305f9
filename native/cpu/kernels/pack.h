// Weight rows as stored -> one panel of the GEMM's layout.
#pragma once

#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/gemm.h"

namespace {

using matryoshka::cpu::Pack;
using matryoshka::cpu::per_step;

/// One row's weights in the panel's element type, zero up to a whole number of vectors.
void narrow_row(const Pack& p, int column, std::byte* out) {
  const int steps = (p.k + Simd::width - 1) / Simd::width * Simd::width;
  const auto load = [&](int i) { return column < p.columns && i < p.k ? load_stored(p.rows[column], i, p.k - i) : Simd::zero(); };
  switch (p.format) {
    case Format::f16:
      for (int i = 0; i < steps; i += Simd::width) Simd::store_f16(reinterpret_cast<uint16_t*>(out) + i, load(i));
      break;
    case Format::bf16:
    case Format::bf16_dot:
      for (int i = 0; i < steps; i += Simd::width) Simd::store_bf16(reinterpret_cast<uint16_t*>(out) + i, load(i), Simd::width);
      break;
    case Format::s8_dot:
    case Format::s16_dot: {
      Simd::F top = Simd::zero();
      for (int i = 0; i < steps; i += Simd::width) top = Simd::max(top, Simd::max(load(i), Simd::sub(Simd::zero(), load(i))));
      const float most = Simd::largest(top);
      const Simd::F inverse = Simd::set(most > 0 ? 127 / most : 0);
      int8_t* bytes = reinterpret_cast<int8_t*>(out);
      for (int i = 0; i < steps; i += Simd::width) Simd::store_s8(bytes + i, Simd::mul(load(i), inverse), Simd::width);
      p.scale[column] = most / 127;
      p.sums[column] = 0;
      for (int i = 0; i < p.k; ++i) p.sums[column] += bytes[i];
      if (p.format == Format::s16_dot)
        for (int i = steps; i-- > 0;) reinterpret_cast<int16_t*>(out)[i] = bytes[i];
      break;
    }
    case Format::f32:
      for (int i = 0; i < steps; i += Simd::width) Simd::store(reinterpret_cast<float*>(out) + i, load(i));
      break;
  }
}

/// Rows [kWidth] of dwords, `stride` bytes apart -> [steps][kWidth] dwords.
void transpose_panel(const std::byte* rows, size_t stride, int steps, std::byte* panel) {
  for (int c = 0; c < kWidth; c += Simd::width)
    for (int s = 0; s < steps; s += Simd::width) {
      Simd::I block[Simd::width];
      for (int i = 0; i < Simd::width; ++i) block[i] = Simd::load_int(rows + (c + i) * stride + s * 4);
      Simd::transpose(block);
      for (int i = 0; i < Simd::width && s + i < steps; ++i) Simd::store_int(panel + (static_cast<size_t>(s + i) * kWidth + c) * 4, block[i]);
    }
}

/// The same for 16-bit values that stay single.
void transpose_halves(const std::byte* rows, size_t stride, int k, std::byte* panel) {
  uint16_t* out = reinterpret_cast<uint16_t*>(panel);
  for (int i = 0; i < k; ++i)
    for (int c = 0; c < kWidth; ++c) *out++ = reinterpret_cast<const uint16_t*>(rows + c * stride)[i];
}

void pack(const Pack& p) {
  const size_t stride = static_cast<size_t>(p.k + 15) / 16 * 16 * sizeof(float);
  std::byte* rows = reinterpret_cast<std::byte*>(p.scratch);
  for (int c = 0; c < kWidth; ++c) narrow_row(p, c, rows + c * stride);
  if (p.format == Format::f16 || p.format == Format::bf16) return transpose_halves(rows, stride, p.k, p.panel);
  transpose_panel(rows, stride, (p.k + per_step(p.format) - 1) / per_step(p.format), p.panel);
}

}  // namespace
