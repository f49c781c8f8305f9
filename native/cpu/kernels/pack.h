// Weight rows as stored -> one panel of the GEMM's layout.
#pragma once

#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/gemm.h"

namespace {

using matryoshka::cpu::Pack;

void pack(const Pack& p) {
  const int stride = (p.k + 15) / 16 * 16;
  for (int c = 0; c < kWidth; ++c) {
    float* row = p.scratch + static_cast<size_t>(c) * stride;
    for (int i = 0; i < p.k; i += Simd::width)
      Simd::store(row + i, c < p.columns ? load_stored(p.rows[c], i, p.k - i) : Simd::zero());
  }
  alignas(64) float line[kWidth];
  for (int i = 0; i < p.k; ++i) {
    for (int c = 0; c < kWidth; ++c) line[c] = p.scratch[static_cast<size_t>(c) * stride + i];
    for (int c = 0; c < kWidth; c += Simd::width) {
      const size_t at = static_cast<size_t>(i) * kWidth + c;
      const Simd::F x = Simd::load(line + c);
      switch (p.format) {
        case Format::f16: Simd::store_f16(reinterpret_cast<uint16_t*>(p.panel) + at, x); break;
        case Format::bf16: Simd::store_bf16(reinterpret_cast<uint16_t*>(p.panel) + at, x, Simd::width); break;
        default: Simd::store(reinterpret_cast<float*>(p.panel) + at, x); break;
      }
    }
  }
}

}  // namespace
