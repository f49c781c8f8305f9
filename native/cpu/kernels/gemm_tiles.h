// output <- epilogue(input weightᵀ + bias) in bf16 and int8 by the tile unit.
#pragma once

#include <type_traits>

#include "cpu/kernels/gemm_dot.h"
#include "cpu/kernels/tile_unit.h"

#ifdef __AMX_TILE__

namespace {

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

/// Calls body(R, row, rows) for blocks of up to two tiles of rows, R of them, which the unit is configured for.
template <class Body>
void each_block(TileUnit& unit, int count, const Body& body) {
  constexpr int most = 2 * TileUnit::rows;
  for (int row = 0, rows; row < count; row += rows) {
    rows = count - row < most ? count - row : most;
    if (rows > TileUnit::rows) {
      unit.configure(TileUnit::rows, rows - TileUnit::rows);
      body(std::integral_constant<int, 2>(), row, rows);
    } else {
      unit.configure(rows, 0);
      body(std::integral_constant<int, 1>(), row, rows);
    }
  }
}

/// The product by the tile unit: a panel, which stays in cache, times all rows.
template <class Dot>
void tiles_times_rows(const Gemm& g) {
  static_assert(kWidth == 2 * Simd::width, "a panel is two tiles wide");
  TileUnit unit;
  FinishedBlock<Dot> finished(g);
  const auto store = [&](int i, int n) { finished.store(i, n); };
  const int dwords = (g.weight->k + Dot::per_step - 1) / Dot::per_step;
  const std::byte* panel = g.weight->data;
  for (int column = 0; column < g.weight->n; column += kWidth, panel += g.weight->panel_bytes)
    each_block(unit, g.rows, [&](auto tiles, int row, int rows) {
      const TileOperands p{g.input.row(row), g.input.stride, panel, kWidth * 4, dwords};
      tile_product<Dot::per_step == 4, decltype(tiles)::value, 2>(p, rows, finished.next_sums(), finished.stride, store);
      finished.replace(row, rows, column);
    });
  finished.store(0, 1);
}

}  // namespace

#endif
