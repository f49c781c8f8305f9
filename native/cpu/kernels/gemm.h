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

/// What turns a column's sum into the product: the bias …
struct FloatColumns {
  Simd::F bias;
  FloatColumns(const Panels& w, int column) : bias(Simd::load(w.bias + column)) {}
  Simd::F value(Simd::F sum, const Rows2d&, int) const { return Simd::add(sum, bias); }
};

/// … and the scales: Σ s (u - z) t q = s t (Σ (u - b) q - (z - b) Σ q), b = dot_bias, exact in integers up to s and t.
struct IntegerColumns {
  Simd::F bias, scale;
  Simd::I sums;
  IntegerColumns(const Panels& w, int column)
      : bias(Simd::load(w.bias + column)), scale(Simd::load(w.scale + column)), sums(Simd::load_int(w.sums + column)) {}
  Simd::F value(Simd::Sum sum, const Rows2d& rows, int row) const {
    const Simd::I offset = Simd::mul_int(Simd::set_int(rows.zero[row] - Simd::dot_bias), sums);
    return Simd::fma(Simd::to_float(Simd::sub_int(Simd::from_sum(sum), offset)), Simd::mul(Simd::set(rows.scale[row]), scale), bias);
  }
};

/// What a step of the micro-kernel does with a dword of a row and a vector of dwords of columns.
struct DotF32 {
  using Acc = Simd::F;
  using Lane = Simd::F;
  static constexpr int per_step = 1;
  static constexpr bool exact = true;
  static Acc zero() { return Simd::zero(); }
  static Lane load(const std::byte* p) { return Simd::load(reinterpret_cast<const float*>(p)); }
  static Lane broadcast(const std::byte* p) { return Simd::set(*reinterpret_cast<const float*>(p)); }
  static Acc step(Acc acc, Lane a, Lane b) { return Simd::fma(a, b, acc); }
  using Columns = FloatColumns;
};

struct DotIntegers {
  using Lane = Simd::I;
  static constexpr bool exact = false;
  static Lane load(const std::byte* p) { return Simd::load_int(p); }
  static Lane broadcast(const std::byte* p) {
    int32_t x;
    __builtin_memcpy(&x, p, 4);
    return Simd::set_int(x);
  }
};

template <class S>  // a parameter, so that only a Simd that has dot_bf16 is asked for it
struct DotBf16 : DotIntegers {
  using Acc = Simd::F;
  static constexpr int per_step = 2;
  static Acc zero() { return Simd::zero(); }
  static Acc step(Acc acc, Lane a, Lane b) { return S::dot_bf16(acc, a, b); }
  using Columns = FloatColumns;
};

struct DotU8 : DotIntegers {
  using Acc = Simd::Sum;
  static constexpr int per_step = 4;
  static Acc zero() { return Acc{}; }
  static Acc step(Acc acc, Lane a, Lane b) { return Simd::dot_u8(acc, a, b); }
  using Columns = IntegerColumns;
};

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

/// Activates and stores `rows` × kWidth sums, of which those below n are real.
template <bool exact>
void store_tile(const Gemm& g, const float* sums, int row, int rows, int column) {
  const int columns = g.weight->n - column < kWidth ? g.weight->n - column : kWidth;
  for (int r = 0; r < rows; ++r) {
    std::byte* out = g.output.row(row + r);
    for (int c = 0; c < columns; c += Simd::width) {
      const Simd::F y = activate<exact>(g.epilogue, Simd::load(sums + r * kWidth + c));
      if (g.output.element == Element::f32) {
        Simd::store(reinterpret_cast<float*>(out) + column + c, y, columns - c);
      } else {
        Simd::store_bf16(reinterpret_cast<uint16_t*>(out) + column + c, y, columns - c);
      }
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
  if (!direct) store_tile<Dot::exact>(g, sums, row, R, column);
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

void gemm(const Gemm& g) {
  const Panels& w = *g.weight;
  const std::byte* panel = w.data;
  for (int column = 0; column < w.n; column += kWidth) {
    const std::byte* const next = panel + w.panel_bytes;  // after the last one: whatever is packed behind this matrix
    switch (w.format) {
      case Format::f32: panel_times_rows<DotF32>(g, column, panel, next); break;
      case Format::f16:
      case Format::bf16: panel_times_rows<DotF32>(g, column, widened(g, panel), next); break;
      case Format::bf16_dot: bf16_panel_times_rows<Simd>(g, column, panel, next); break;
      case Format::s8_dot: panel_times_rows<DotU8>(g, column, panel, next); break;
    }
    panel = next;
  }
}

}  // namespace
