// output <- epilogue(input weightᵀ + bias): one micro-kernel over dwords for every precision.
//
// An accumulator is summed over k in ascending order by one chain of fused steps, whatever the number of rows in
// flight: a row's result cannot depend on its neighbours.
#pragma once

#include "cpu/kernels/gemm_dot.h"
#include "cpu/kernels/gemm_split.h"
#include "cpu/kernels/gemm_tiles.h"

namespace {

template <int N>
struct Constant {
  static constexpr int value = N;
};

/// Calls f with the Constant that equals n, which is in [1, Most].
template <int Most, class F>
inline void constant_up_to(int n, const F& f) {
  if constexpr (Most > 1) {
    if (n < Most) return constant_up_to<Most - 1>(n, f);
  }
  f(Constant<Most>());
}

/// Memory that will be wanted soon, asked for a few bytes a step.
struct Prefetch {
  const std::byte* next;
  size_t per_step;  ///< 0: nothing is asked for
};

/// acc[r][j] += Σ over `steps` dwords of row r and vector j. Rows are a_stride bytes apart, steps of b b_stride.
template <class Dot, int R, int N>
inline __attribute__((always_inline)) void multiply(const std::byte* a, size_t a_stride, const std::byte* b, size_t b_stride, int steps,
                                                    typename Dot::Acc (&acc)[R][N], Prefetch ahead) {
  for (int s = 0; s < steps; ++s, a += 4, b += b_stride, ahead.next += ahead.per_step) {
    if (ahead.per_step != 0) __builtin_prefetch(ahead.next, 0, 2);
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

template <class Dot, int R>
void block(const Gemm& g, int row, int column, const std::byte* panel, int steps, Prefetch ahead) {
  typename Dot::Acc acc[R][Simd::vectors];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < Simd::vectors; ++j) acc[r][j] = Dot::zero();
  multiply<Dot>(g.input.row(row), g.input.stride, panel, kWidth * 4, steps, acc, ahead);
  alignas(64) float sums[R * kWidth];
  const bool direct = g.epilogue == Epilogue::none && g.output.element == Element::f32 && column + kWidth <= g.weight->n;
  float* const out = direct ? reinterpret_cast<float*>(g.output.row(row)) + column : sums;
  const size_t stride = direct ? g.output.stride / sizeof(float) : kWidth;
#pragma GCC unroll 8
  for (int j = 0; j < Simd::vectors; ++j) {
    const typename Dot::Columns columns(*g.weight, column + j * Simd::width);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) Simd::store(out + r * stride + j * Simd::width, columns.value(acc[r][j], g.input, row + r));
  }
  if (direct) return;
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < kWidth && column + c < g.weight->n; c += Simd::width)
      store_products<Dot::exact>(g.output.element, g.epilogue, g.output.row(row + r), column + c, g.weight->n - column - c, Simd::load(sums + r * kWidth + c));
}

/// Runs one panel over all rows, in blocks of at most kRows that differ by at most one row. Meanwhile the next panel is
/// fetched: once over all blocks.
template <class Dot>
void panel_times_rows(const Gemm& g, int column, const std::byte* panel, const std::byte* next_panel) {
  const int steps = (g.weight->k + Dot::per_step - 1) / Dot::per_step;
  const int blocks = (g.rows + kRows - 1) / kRows;
  const size_t share = g.weight->panel_bytes / blocks;
  for (int i = 0, row = 0, rows; i < blocks; ++i, row += rows) {
    rows = (g.rows - row + blocks - i - 1) / (blocks - i);
    const Prefetch ahead{next_panel + i * share, share / steps + 1};
    constant_up_to<kRows>(rows, [&](auto r) { block<Dot, decltype(r)::value>(g, row, column, panel, steps, ahead); });
  }
}

template <class S>
void bf16_panel_times_rows(const Gemm& g, int column, const std::byte* panel, const std::byte* next_panel) {
  if constexpr (S::has_bf16) panel_times_rows<DotBf16<S>>(g, column, panel, next_panel);
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

/// Bytes of scratch for a k.
size_t gemm_scratch(int k) {
#ifdef __AMX_TILE__
  return SplitScratch(k).end;
#else
  return static_cast<size_t>(k) * kWidth * sizeof(float);
#endif
}

void gemm(const Gemm& g) {
  const Panels& w = *g.weight;
#ifdef __AMX_TILE__
  if (w.format == Format::bf16_dot) return tiles_times_rows<DotBf16<Simd>>(g);
  if (w.format == Format::s8_dot) return tiles_times_rows<DotIntegers>(g);
  if (g.scratch) return split_times_rows(g);
#endif
  const std::byte* panel = w.data;
  for (int column = 0; column < w.n; column += kWidth) {
    const std::byte* const next = panel + w.panel_bytes;  // after the last one: whatever is packed behind this matrix
    switch (w.format) {
      case Format::f32: panel_times_rows<DotF32>(g, column, panel, next); break;
      case Format::f16:
      case Format::bf16: panel_times_rows<DotF32>(g, column, widened(g, panel), next); break;
      case Format::bf16_dot: bf16_panel_times_rows<Simd>(g, column, panel, next); break;
      case Format::s8_dot:
      case Format::s16_dot: panel_times_rows<DotIntegers>(g, column, panel, next); break;
    }
    panel = next;
  }
}

}  // namespace
