// output <- epilogue(input weightᵀ + bias): one micro-kernel over dwords for every precision.
//
// An accumulator is summed over k in ascending order by one chain of fused steps, whatever the number of rows in
// flight: a row's result cannot depend on its neighbours.
#pragma once

#include "cpu/kernels/math.h"
#include "cpu/kernels/tile_unit.h"

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

/// Activates and stores a vector of products, of which `columns` are real.
template <bool exact>
inline __attribute__((always_inline)) void store_products(Element element, Epilogue epilogue, std::byte* row, int column, int columns, Simd::F products) {
  const Simd::F y = activate<exact>(epilogue, products);
  if (element == Element::f32) Simd::store(reinterpret_cast<float*>(row) + column, y, columns);
  else Simd::store_bf16(reinterpret_cast<uint16_t*>(row) + column, y, columns);
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

#ifdef __AMX_TILE__

/// A sum that a tile holds.
inline Simd::F load_sum(const std::byte* p, const FloatColumns&) { return Simd::load(reinterpret_cast<const float*>(p)); }
inline Simd::Sum load_sum(const std::byte* p, const IntegerColumns&) { return (Simd::Sum)Simd::load_int(p); }

/// A block of sums that tiles have written, up to 32 × 32, on its way to the output row by row: while tiles work on the
/// next block, so that neither waits for the other.
template <class Dot>
class FinishedBlock {
 public:
  explicit FinishedBlock(const Gemm& g) : g_(g) {}

  /// Where the next block's sums go, while this one's are read.
  std::byte* next_sums() { return sums_[1 - current_]; }
  static constexpr size_t stride = 2 * 64;

  /// The block in next_sums takes this one's place, all of whose rows are stored.
  void replace(int row, int rows, int column) {
    current_ = 1 - current_;
    row_ = row;
    rows_ = rows;
    stored_ = 0;
    column_ = column;
  }

  /// Stores rows up to the share (i + 1) / n of them.
  void store(int i, int n) {
    const int end = rows_ * (i + 1) / n, column = column_, columns = g_.weight->n - column;
    const typename Dot::Columns left(*g_.weight, column), right(*g_.weight, column + Simd::width);
    const Rows2d input = g_.input;
    const Element element = g_.output.element;
    const Epilogue epilogue = g_.epilogue;
    const std::byte* sums = sums_[current_] + stored_ * stride;
    std::byte* out = g_.output.row(row_ + stored_);
    const size_t out_stride = g_.output.stride;
    for (int r = row_ + stored_; r < row_ + end; ++r, sums += stride, out += out_stride) {
      store_products<Dot::exact>(element, epilogue, out, column, columns, left.value(load_sum(sums, left), input, r));
      if (columns > Simd::width)
        store_products<Dot::exact>(element, epilogue, out, column + Simd::width, columns - Simd::width, right.value(load_sum(sums + 64, right), input, r));
    }
    stored_ = end;
  }

 private:
  const Gemm& g_;
  int row_ = 0, rows_ = 0, stored_ = 0, column_ = 0, current_ = 0;
  alignas(64) std::byte sums_[2][2 * TileUnit::rows * stride];
};

/// The product by the tile unit: two tiles of columns, which stay in cache, times all rows.
template <class Dot>
void tiles_times_rows(const Gemm& g) {
  TileUnit unit;
  FinishedBlock<Dot> finished(g);
  const auto store = [&](int i, int n) { finished.store(i, n); };
  const int dwords = (g.weight->k + Dot::per_step - 1) / Dot::per_step;
  constexpr bool integers = Dot::per_step == 4;
  for (int column = 0; column < g.weight->n; column += 2 * Simd::width) {
    const std::byte* const b = g.weight->data + column / kWidth * g.weight->panel_bytes + column % kWidth * 4;
    for (int row = 0, rows; row < g.rows; row += rows) {
      rows = g.rows - row < 2 * TileUnit::rows ? g.rows - row : 2 * TileUnit::rows;
      const TileOperands p{g.input.row(row), g.input.stride, b, kWidth * 4, dwords};
      if (rows > TileUnit::rows) {
        unit.configure(TileUnit::rows, rows - TileUnit::rows);
        tile_product<integers, 2, 2>(p, rows, finished.next_sums(), finished.stride, store);
      } else {
        unit.configure(rows, 0);
        tile_product<integers, 1, 2>(p, rows, finished.next_sums(), finished.stride, store);
      }
      finished.replace(row, rows, column);
    }
  }
  finished.store(0, 1);
}

#endif

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
#ifdef __AMX_TILE__
  if (w.format == Format::bf16_dot) return tiles_times_rows<DotBf16<Simd>>(g);
  if (w.format == Format::s8_dot) return tiles_times_rows<DotU8>(g);
#endif
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
