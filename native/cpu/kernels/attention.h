// softmax(query keysᵀ / sqrt(d)) values for one sequence, head by head, over small blocks of queries.
//
// A block's scores against all keys stay in cache (kRows × keys floats), so softmax needs no running rescale, and a
// row's operations come in the order of the keys whatever block it is in.
#pragma once

#include "cpu/kernels/gemm.h"

namespace {

using matryoshka::cpu::Attention;

constexpr int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

/// Scratch of one head: keys transposed into panels [steps][width], values [keys][padded dim], scores, context.
struct AttentionScratch {
  size_t keys, values, scores, context, end;
  AttentionScratch(int key_count, int dim) {
    const size_t padded = round_up(key_count, kWidth), columns = round_up(dim, Simd::width);
    keys = 0;
    values = keys + padded * dim * sizeof(float);
    scores = values + padded * columns * sizeof(float);
    context = scores + kRows * padded * sizeof(float);
    end = context + kRows * columns * sizeof(float);
  }
};

size_t attention_scratch(int keys, int dim) { return AttentionScratch(keys, dim).end; }

/// Keys [first, first + kWidth) of one head -> [dim][kWidth] floats, zero beyond the last key.
void pack_keys(const float* key, size_t stride, int keys, int dim, float* panel) {
  for (int t = 0; t < kWidth; ++t)
    for (int i = 0; i < dim; ++i) panel[static_cast<size_t>(i) * kWidth + t] = t < keys ? key[t * stride + i] : 0.f;
}

void pack_values(const float* value, size_t stride, int keys, int dim, float* out) {
  for (int t = 0; t < keys; ++t, value += stride)
    for (int i = 0; i < dim; i += Simd::width, out += Simd::width) Simd::store(out, Simd::load(value + i, dim - i));
}

/// out[r, 0 … N vectors) <- Σ over steps, for R rows.
template <class Dot, int R, int N>
void product(const std::byte* a, size_t a_stride, const std::byte* b, size_t b_stride, int steps, float* out, size_t out_stride) {
  typename Dot::Acc acc[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) acc[r][j] = Dot::zero();
  multiply<Dot>(a, a_stride, b, b_stride, steps, acc);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) Simd::store(out + r * out_stride + j * Simd::width, acc[r][j]);
}

/// The same for any number of rows up to kRows and of vectors up to Simd::vectors.
template <class Dot, int N>
void product_rows(int rows, const std::byte* a, size_t a_stride, const std::byte* b, size_t b_stride, int steps, float* out, size_t out_stride) {
  switch (rows) {
    case 1: return product<Dot, 1, N>(a, a_stride, b, b_stride, steps, out, out_stride);
    case 2: return product<Dot, 2, N>(a, a_stride, b, b_stride, steps, out, out_stride);
    case 3: return product<Dot, 3, N>(a, a_stride, b, b_stride, steps, out, out_stride);
    case 4: return product<Dot, 4, N>(a, a_stride, b, b_stride, steps, out, out_stride);
    case 5: return product<Dot, 5, N>(a, a_stride, b, b_stride, steps, out, out_stride);
    default: return product<Dot, 6, N>(a, a_stride, b, b_stride, steps, out, out_stride);
  }
}

template <class Dot>
void product_any(int rows, int vectors, const std::byte* a, size_t a_stride, const std::byte* b, size_t b_stride, int steps, float* out, size_t out_stride) {
  switch (vectors) {
    case 1: return product_rows<Dot, 1>(rows, a, a_stride, b, b_stride, steps, out, out_stride);
    case 2: return product_rows<Dot, 2>(rows, a, a_stride, b, b_stride, steps, out, out_stride);
    case 3: return product_rows<Dot, 3>(rows, a, a_stride, b, b_stride, steps, out, out_stride);
    default: return product_rows<Dot, 4>(rows, a, a_stride, b, b_stride, steps, out, out_stride);
  }
}

/// scores <- exp(scale * (scores - largest)), in powers of two; returns 1 / sum.
float softmax_row(float* scores, int keys, float scale) {
  Simd::F top = Simd::set(scores[0]);
  for (int t = 0; t < keys; t += Simd::width) {
    top = Simd::max(top, Simd::keep(Simd::load(scores + t), keys - t, top));
  }
  const Simd::F factor = Simd::set(scale * kLog2e), offset = Simd::set(-(Simd::largest(top) * (scale * kLog2e)));
  Simd::F sum = Simd::zero();
  for (int t = 0; t < keys; t += Simd::width) {
    const Simd::F weight = exp2(Simd::fma(Simd::load(scores + t), factor, offset));
    const Simd::F kept = Simd::keep(weight, keys - t, Simd::zero());
    sum = Simd::add(sum, kept);
    Simd::store(scores + t, kept);
  }
  return 1 / Simd::sum(sum);
}

inline const float* floats(const Rows2d& m, int row, int column) { return reinterpret_cast<const float*>(m.row(row)) + column; }

void attention(const Attention& a) {
  const int dim = a.head_dim, columns = round_up(dim, Simd::width);
  const AttentionScratch layout(a.keys, dim);
  float* const keys = reinterpret_cast<float*>(a.scratch + layout.keys);
  float* const values = reinterpret_cast<float*>(a.scratch + layout.values);
  float* const scores = reinterpret_cast<float*>(a.scratch + layout.scores);
  float* const context = reinterpret_cast<float*>(a.scratch + layout.context);
  const size_t score_stride = round_up(a.keys, kWidth);
  const float scale = 1 / __builtin_sqrtf(static_cast<float>(dim));
  for (int head = 0; head < a.heads; ++head) {
    const int at = head * dim;
    for (int t = 0; t < a.keys; t += kWidth)
      pack_keys(floats(a.key, t, at), a.key.stride / sizeof(float), a.keys - t, dim, keys + static_cast<size_t>(t) * dim);
    pack_values(floats(a.value, 0, at), a.value.stride / sizeof(float), a.keys, dim, values);
    const int blocks = (a.queries + kRows - 1) / kRows;
    for (int i = 0, row = 0; i < blocks; ++i) {
      const int rows = (a.queries - row + blocks - i - 1) / (blocks - i);
      for (int t = 0; t < a.keys; t += kWidth) {
        const int left = a.keys - t, vectors = left >= kWidth ? Simd::vectors : (left + Simd::width - 1) / Simd::width;
        product_any<DotF32>(rows, vectors, a.query.row(row) + at * sizeof(float), a.query.stride,
                            reinterpret_cast<const std::byte*>(keys + static_cast<size_t>(t) * dim), kWidth * sizeof(float), dim, scores + t, score_stride);
      }
      float inverse[kRows];
      for (int r = 0; r < rows; ++r) inverse[r] = softmax_row(scores + r * score_stride, a.keys, scale);
      for (int c = 0; c < columns; c += kWidth) {
        const int vectors = columns - c >= kWidth ? Simd::vectors : (columns - c) / Simd::width;
        product_any<DotF32>(rows, vectors, reinterpret_cast<const std::byte*>(scores), score_stride * sizeof(float),
                            reinterpret_cast<const std::byte*>(values + c), columns * sizeof(float), a.keys, context + c, columns);
      }
      for (int r = 0; r < rows; ++r) {
        float* out = reinterpret_cast<float*>(a.context.row(row + r)) + at;
        for (int c = 0; c < dim; c += Simd::width)
          Simd::store(out + c, Simd::mul(Simd::load(context + r * columns + c), Simd::set(inverse[r])), dim - c);
      }
      row += rows;
    }
  }
}

}  // namespace
