// Rows of f32 that move, meet or are summed: embeddings, scoring rows, and every gradient that is a sum over rows. Each
// output has one owner that adds in one order.
#pragma once

#include "cuda/kernels/training/norm.cuh"

namespace matryoshka::cuda {

struct SumRowsArgs {
  const void* in;      ///< rows of `width`, elements or f32 by kernel
  const void* times;   ///< 16-bit elements, multiplied with `in` before they are summed, or null; for f32
  const int* index;    ///< the rows of `in` in the order they are added, or null: in theirs
  const int* starts;   ///< [outputs + 1] into that order, or null: `segment` rows each, of `count`
  int segment, count;
  int outputs;
  const int* place;    ///< [outputs] row of `out` for each, or null: in order
  float* out;
  bool accumulate;
  int width;           ///< a multiple of 8
};

struct MoveRowsArgs {
  const float* in;   ///< rows of `width`
  const int* index;  ///< [rows] of `in` when gathering, of `out` when adding; or null: in order
  float* out;
  void* elements;    ///< [rows, width]: what is gathered, once more in elements; or null
  int rows, width;
};

struct EmbeddingSumArgs {
  const float *word, *position, *type;
  const int *tokens, *positions, *types;  ///< [rows]
  float* hidden;                          ///< [rows, width]
  int rows, width;
};

struct NarrowArgs {
  const float* in;
  void* out;
  int chunks;  ///< of eight numbers
};

/// A warp an output and 256 of its columns.
template <class E, bool kFloats>
KERNEL(kRowThreads, 2)
sum_rows(SumRowsArgs args) {
  const int groups = (args.width + 255) / 256;
  for (int item = first_row(); item < args.outputs * groups; item += row_step()) {
    const int output = item / groups, column = item % groups * 256 + thread_index() % 32 * 8;
    if (column >= args.width) continue;
    const int first = args.starts ? load(args.starts + output) : output * args.segment;
    const int end = args.starts ? load(args.starts + output + 1) : first + args.segment < args.count ? first + args.segment : args.count;
    float sum[8] = {};
    UNROLL_BY_2 for (int i = first; i < end; ++i) {
      const size_t at = static_cast<size_t>(args.index ? load(args.index + i) : i) * args.width + column;
      float x[8];
      if constexpr (kFloats) {
        load8(static_cast<const float*>(args.in) + at, x);
        if (args.times) {
          float y[8];
          widen<E>(load(reinterpret_cast<const Chunk*>(static_cast<const E*>(args.times) + at)), y);
          UNROLL for (int e = 0; e < 8; ++e) x[e] *= y[e];
        }
      } else {
        widen<E>(load(reinterpret_cast<const Chunk*>(static_cast<const E*>(args.in) + at)), x);
      }
      UNROLL for (int e = 0; e < 8; ++e) sum[e] += x[e];
    }
    float* const to = args.out + static_cast<size_t>(args.place ? load(args.place + output) : output) * args.width + column;
    if (args.accumulate) {
      float before[8];
      load8(to, before);
      UNROLL for (int e = 0; e < 8; ++e) sum[e] += before[e];
    }
    store8(to, sum);
  }
}

template <class E>
KERNEL(kRowThreads, 2)
gather_rows(MoveRowsArgs args) {
  for (int r = first_row(); r < args.rows; r += row_step())
    for (int c = thread_index() % 32 * 8; c < args.width; c += 256) {
      float x[8];
      load8(args.in + static_cast<size_t>(args.index ? load(args.index + r) : r) * args.width + c, x);
      store8(args.out + static_cast<size_t>(r) * args.width + c, x);
      if (args.elements) store8<E>(args.elements, static_cast<size_t>(r) * args.width + c, x);
    }
}

/// out[index[r]] += in[r]; no two rows have the same place.
KERNEL(kRowThreads, 2)
add_rows(MoveRowsArgs args) {
  for (int r = first_row(); r < args.rows; r += row_step())
    for (int c = thread_index() % 32 * 8; c < args.width; c += 256) {
      float x[8], y[8];
      float* const to = args.out + static_cast<size_t>(args.index ? load(args.index + r) : r) * args.width + c;
      load8(args.in + static_cast<size_t>(r) * args.width + c, x);
      load8(to, y);
      UNROLL for (int e = 0; e < 8; ++e) y[e] += x[e];
      store8(to, y);
    }
}

/// hidden = word + position + type
KERNEL(kRowThreads, 2)
embedding_sum(EmbeddingSumArgs args) {
  for (int r = first_row(); r < args.rows; r += row_step())
    for (int c = thread_index() % 32 * 8; c < args.width; c += 256) {
      float x[8], y[8], z[8];
      load8(args.word + static_cast<size_t>(load(args.tokens + r)) * args.width + c, x);
      load8(args.position + static_cast<size_t>(load(args.positions + r)) * args.width + c, y);
      load8(args.type + static_cast<size_t>(load(args.types + r)) * args.width + c, z);
      UNROLL for (int e = 0; e < 8; ++e) x[e] = x[e] + y[e] + z[e];
      store8(args.hidden + static_cast<size_t>(r) * args.width + c, x);
    }
}

template <class E>
KERNEL(kRowThreads, 2)
narrow_all(NarrowArgs args) {
  for (int i = block_index() * kRowThreads + thread_index(); i < args.chunks; i += block_count() * kRowThreads) {
    float x[8];
    load8(args.in + static_cast<size_t>(i) * 8, x);
    store8<E>(args.out, static_cast<size_t>(i) * 8, x);
  }
}

}  // namespace matryoshka::cuda
