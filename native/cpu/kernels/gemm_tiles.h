// output <- epilogue(input weightᵀ + bias) in bf16 and int8 by the tile unit.
#pragma once

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

}  // namespace

#endif
