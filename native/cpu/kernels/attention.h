// softmax(query keysᵀ / sqrt(d)) values for one sequence, head by head, over small blocks of queries.
//
// A block's scores against all keys stay in cache (kMostRows × keys floats), so softmax needs no running rescale, and a
// row's operations come in the order of the keys whatever block it is in. Both products are the GEMM's micro-kernel:
// keys are transposed into panels, values are laid out as the panel they already are.
#pragma once

#include "cpu/kernels/gemm.h"

namespace {

using matryoshka::cpu::Attention;

constexpr int divide_up(int n, int by) { return (n + by - 1) / by; }
constexpr int round_up(int n, int multiple) { return divide_up(n, multiple) * multiple; }

/// One head's columns of all keys -> panels. Keys beyond the last are zero up to a whole vector.
void pack_keys(const Rows2d& key, int keys, size_t first_byte, int bytes, std::byte* panels) {
  const int dwords = divide_up(bytes, 4);
  for (int t = 0; t < keys; t += Simd::width) {
    std::byte* panel = panels + static_cast<size_t>(t / kWidth) * dwords * kWidth * 4 + t % kWidth * 4;
    for (int d = 0; d < dwords; d += Simd::width) {
      Simd::I block[Simd::width];
      for (int i = 0; i < Simd::width; ++i) {
        block[i] = t + i < keys ? Simd::load_bytes(key.row(t + i) + first_byte + d * 4, bytes - d * 4) : Simd::zero_int();
      }
      Simd::transpose(block);
      for (int i = 0; i < Simd::width && d + i < dwords; ++i) Simd::store_int(panel + static_cast<size_t>(d + i) * kWidth * 4, block[i]);
    }
  }
}

/// One head's columns of all values -> [dwords][columns] dwords, a dword holding per_step keys.
template <class Dot>
void pack_values(const Rows2d& value, int keys, size_t first_byte, int dim, std::byte* out) {
  for (int t = 0; t < keys; t += Dot::per_step)
    for (int c = 0; c < dim; c += Simd::width, out += Simd::width * 4) {
      if constexpr (Dot::per_step == 1) {
        Simd::store_int(out, Simd::load_bytes(value.row(t) + first_byte + c * 4, (dim - c) * 4));
      } else {
        const auto at = [&](int key) { return reinterpret_cast<const uint16_t*>(value.row(key) + first_byte) + c; };
        Simd::store_int(out, Simd::pair(at(t), t + 1 < keys ? at(t + 1) : nullptr, dim - c));
      }
    }
}

struct Product {
  const std::byte* a;
  size_t a_stride;
  const std::byte* b;
  size_t b_stride;
  int steps;
  std::byte* out;
  size_t out_stride;
};

template <class Dot, int R, int N>
void product(const Product& p) {
  typename Dot::Acc acc[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) acc[r][j] = Dot::zero();
  multiply<Dot>(p.a, p.a_stride, p.b, p.b_stride, p.steps, acc, {p.b, 0});
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) Simd::store(reinterpret_cast<float*>(p.out + r * p.out_stride) + j * Simd::width, acc[r][j]);
}

/// Products of up to `rows` rows and Simd::vectors vectors of columns.
template <class Dot>
struct Products {
  static constexpr int rows = kRows;
  void operator()(int count, int vectors, const Product& p) {
    constant_up_to<kRows>(count, [&](auto r) {
      constant_up_to<Simd::vectors>(vectors, [&](auto n) { product<Dot, decltype(r)::value, decltype(n)::value>(p); });
    });
  }
};

#ifdef __AMX_TILE__

template <>
struct Products<DotBf16<Simd>> {
  static constexpr int rows = TileUnit::rows;
  void operator()(int count, int vectors, const Product& p) {
    unit.configure(count, 0);
    for (int j = 0; j < vectors; j += 2) {
      const TileOperands operands{p.a, p.a_stride, p.b + j * 64, p.b_stride, p.steps};
      const auto nothing = [](int, int) {};
      if (vectors - j > 1) tile_product<false, 1, 2>(operands, count, p.out + j * 64, p.out_stride, nothing);
      else tile_product<false, 1, 1>(operands, count, p.out + j * 64, p.out_stride, nothing);
    }
  }
  TileUnit unit;
};

constexpr int kMostRows = TileUnit::rows;

#else

constexpr int kMostRows = kRows;

#endif

/// Scratch of one head. All offsets and strides in bytes.
struct AttentionScratch {
  size_t keys;    ///< panels of kWidth keys: [dwords of a key][kWidth] dwords
  size_t values;  ///< [dwords of a column of values][columns] dwords
  size_t scores, score_stride;
  size_t context, context_stride;
  size_t end;

  AttentionScratch(int key_count, int dim) {
    const size_t columns = round_up(dim, Simd::width), padded = round_up(key_count, kWidth);
    keys = 0;
    values = keys + padded * dim * 4;
    scores = values + static_cast<size_t>(key_count) * columns * 4;
    score_stride = (padded + 16) * 4;
    context = scores + kMostRows * score_stride;
    context_stride = columns * 4;
    end = context + kMostRows * context_stride;
  }
};

size_t attention_scratch(int keys, int dim) { return AttentionScratch(keys, dim).end; }

/// scores <- 2^(factor * (scores - largest)), in the element type of the second product; returns 1 / sum.
template <class Dot>
float softmax_row(std::byte* row, int keys, float factor) {
  float* scores = reinterpret_cast<float*>(row);
  const int whole = keys / Simd::width * Simd::width;
  if (whole < keys) Simd::store(scores + whole, Simd::keep(Simd::load(scores + whole), keys - whole, Simd::set(-3e38f)));
  Simd::F top = Simd::load(scores);
  for (int t = Simd::width; t < keys; t += Simd::width) top = Simd::max(top, Simd::load(scores + t));
  const Simd::F slope = Simd::set(factor), offset = Simd::set(-(Simd::largest(top) * factor));
  Simd::F sum = Simd::zero();
  for (int t = 0; t < keys; t += Simd::width) {
    const Simd::F weight = exp2<Dot::exact>(Simd::fma(Simd::load(scores + t), slope, offset));
    sum = Simd::add(sum, weight);
    if constexpr (Dot::per_step == 1) Simd::store(scores + t, weight);
    else Simd::store_bf16(reinterpret_cast<uint16_t*>(row) + t, weight, Simd::width);  // never ahead of what is read
  }
  return 1 / Simd::sum(sum);
}

template <class Dot>
void attend(const Attention& a) {
  constexpr int element = 4 / Dot::per_step;
  const int dim = a.head_dim, bytes = dim * element, columns = round_up(dim, Simd::width);
  const AttentionScratch layout(a.keys, dim);
  std::byte *const keys = a.scratch + layout.keys, *const values = a.scratch + layout.values, *const scores = a.scratch + layout.scores,
                  *const context = a.scratch + layout.context;
  const float factor = kLog2e / __builtin_sqrtf(static_cast<float>(dim));
  Products<Dot> product_of;
  const int blocks = divide_up(a.queries, Products<Dot>::rows);
  for (int head = 0; head < a.heads; ++head) {
    const size_t first = static_cast<size_t>(head) * bytes;
    pack_keys(a.key, a.keys, first, bytes, keys);
    pack_values<Dot>(a.value, a.keys, first, dim, values);
    for (int i = 0, row = 0, rows; i < blocks; ++i, row += rows) {
      rows = divide_up(a.queries - row, blocks - i);
      Product p{a.query.row(row) + first, a.query.stride, keys, kWidth * 4, divide_up(bytes, 4), scores, layout.score_stride};
      for (int t = 0; t < a.keys; t += kWidth, p.b += static_cast<size_t>(p.steps) * kWidth * 4, p.out += kWidth * 4) {
        product_of(rows, a.keys - t >= kWidth ? Simd::vectors : divide_up(a.keys - t, Simd::width), p);
      }
      float inverse[kMostRows];
      for (int r = 0; r < rows; ++r) inverse[r] = softmax_row<Dot>(scores + r * layout.score_stride, a.keys, factor);
      p = {scores, layout.score_stride, values, static_cast<size_t>(columns) * 4, divide_up(a.keys, Dot::per_step), context, layout.context_stride};
      for (int c = 0; c < columns; c += kWidth, p.b += kWidth * 4, p.out += kWidth * 4) {
        product_of(rows, columns - c >= kWidth ? Simd::vectors : (columns - c) / Simd::width, p);
      }
      for (int r = 0; r < rows; ++r)
        for (int c = 0; c < dim; c += Simd::width) {
          const Simd::F y = Simd::mul(Simd::load(reinterpret_cast<const float*>(context + r * layout.context_stride) + c), Simd::set(inverse[r]));
          if (a.context.element == Element::f32) {
            Simd::store(reinterpret_cast<float*>(a.context.row(row + r)) + head * dim + c, y, dim - c);
          } else {
            Simd::store_bf16(reinterpret_cast<uint16_t*>(a.context.row(row + r)) + head * dim + c, y, dim - c);
          }
        }
    }
  }
}

template <class S>
void attend_bf16(const Attention& a) {
  if constexpr (S::has_bf16) attend<DotBf16<S>>(a);
}

void attention(const Attention& a) { a.query.element == Element::f32 ? attend<DotF32>(a) : attend_bf16<Simd>(a); }

}  // namespace
