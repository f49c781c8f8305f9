// output <- epilogue(input weightᵀ + bias): one micro-kernel over dwords for every precision.
//
// An accumulator is summed over k in ascending order by one chain of fused steps, whatever the number of rows in
// flight: a row's result cannot depend on its neighbours.
#pragma once

#include "cpu/kernels/math.h"

namespace {

using matryoshka::cpu::Element;
using matryoshka::cpu::Format;
using matryoshka::cpu::Gemm;
using matryoshka::cpu::Panels;
using matryoshka::cpu::Rows2d;

constexpr int kWidth = Simd::width * Simd::vectors;  // columns of a panel
constexpr int kRows = Simd::rows;

/// One step of f32: a dword is one element of k.
struct DotF32 {
  using Acc = Simd::F;
  using Lane = Simd::F;
  static constexpr int per_step = 1;
  static Acc zero() { return Simd::zero(); }
  static Lane load(const std::byte* p) { return Simd::load(reinterpret_cast<const float*>(p)); }
  static Lane broadcast(const std::byte* p) { return Simd::set(*reinterpret_cast<const float*>(p)); }
  static Acc step(Acc acc, Lane a, Lane b) { return Simd::fma(a, b, acc); }
};

/// acc[r][j] += Σ over `steps` dwords of row r and vector j. Rows are a_stride bytes apart, steps of b b_stride.
template <class Dot, int R, int N>
inline __attribute__((always_inline)) void multiply(const std::byte* a, size_t a_stride, const std::byte* b, size_t b_stride, int steps,
                                                    typename Dot::Acc (&acc)[R][N]) {
  for (int s = 0; s < steps; ++s, a += 4, b += b_stride) {
    typename Dot::Lane column[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) column[j] = Dot::load(b + j * Simd::width * 4);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const typename Dot::Lane row = Dot::broadcast(a + r * a_stride);
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) acc[r][j] = Dot::step(acc[r][j], row, column[j]);
    }
  }
}

/// Activates and stores `rows` × kWidth sums, of which those below n are real.
inline void store_tile(const Gemm& g, const float* sums, int row, int rows, int column) {
  const int columns = g.weight->n - column < kWidth ? g.weight->n - column : kWidth;
  for (int r = 0; r < rows; ++r) {
    std::byte* out = g.output.row(row + r);
    for (int c = 0; c < columns; c += Simd::width) {
      const Simd::F y = activate(g.epilogue, Simd::load(sums + r * kWidth + c));
      if (g.output.element == Element::f32) {
        Simd::store(reinterpret_cast<float*>(out) + column + c, y, columns - c);
      } else {
        Simd::store_bf16(reinterpret_cast<uint16_t*>(out) + column + c, y, columns - c);
      }
    }
  }
}

template <class Dot, int R>
void block(const Gemm& g, int row, int column, const std::byte* panel, int steps) {
  typename Dot::Acc acc[R][Simd::vectors];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < Simd::vectors; ++j) acc[r][j] = Dot::zero();
  multiply<Dot>(g.input.row(row), g.input.stride, panel, kWidth * 4, steps, acc);
  alignas(64) float sums[R * kWidth];
#pragma GCC unroll 8
  for (int j = 0; j < Simd::vectors; ++j) {
    const Simd::F bias = Simd::load(g.weight->bias + column + j * Simd::width);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) Simd::store(sums + r * kWidth + j * Simd::width, Simd::add(acc[r][j], bias));
  }
  store_tile(g, sums, row, R, column);
}

/// Runs one panel over all rows, in blocks of at most kRows that differ by at most one row.
template <class Dot>
void panel_times_rows(const Gemm& g, int column, const std::byte* panel) {
  const int steps = (g.weight->k + Dot::per_step - 1) / Dot::per_step;
  const int blocks = (g.rows + kRows - 1) / kRows;
  for (int i = 0, row = 0; i < blocks; ++i) {
    const int rows = (g.rows - row + blocks - i - 1) / (blocks - i);
    switch (rows) {
      case 1: block<Dot, 1>(g, row, column, panel, steps); break;
      case 2: block<Dot, 2>(g, row, column, panel, steps); break;
      case 3: block<Dot, 3>(g, row, column, panel, steps); break;
      case 4: block<Dot, 4>(g, row, column, panel, steps); break;
      case 5: block<Dot, 5>(g, row, column, panel, steps); break;
      default: block<Dot, 6>(g, row, column, panel, steps); break;
    }
    row += rows;
  }
}

/// A panel of 16-bit weights as f32.
inline const std::byte* widened(const Gemm& g, const std::byte* panel) {
  const uint16_t* in = reinterpret_cast<const uint16_t*>(panel);
  const size_t count = static_cast<size_t>(g.weight->k) * kWidth;
  for (size_t i = 0; i < count; i += Simd::width) {
    Simd::store(g.scratch + i, g.weight->format == Format::f16 ? Simd::load_f16(in + i, Simd::width) : Simd::load_bf16(in + i, Simd::width));
  }
  return reinterpret_cast<const std::byte*>(g.scratch);
}

void gemm(const Gemm& g) {
  const Panels& w = *g.weight;
  const std::byte* panel = w.data;
  for (int column = 0; column < w.n; column += kWidth, panel += w.panel_bytes) {
    switch (w.format) {
      case Format::f32: panel_times_rows<DotF32>(g, column, panel); break;
      case Format::f16:
      case Format::bf16: panel_times_rows<DotF32>(g, column, widened(g, panel)); break;
      case Format::bf16_dot:
      case Format::s8_dot: break;
    }
  }
}

}  // namespace
