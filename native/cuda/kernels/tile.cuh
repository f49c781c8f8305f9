// Rows of a matrix in shared memory, in 16-byte chunks whose places are permuted so that the eight rows which one
// access touches fall into eight different bank groups.
#pragma once

#include "cuda/instructions/cp_async.cuh"

namespace matryoshka::cuda {

/// Where chunk `c` of row `r` lies. Rows of 128 bytes (or multiples) start in the same bank, rows of 64 in every other.
template <int kRowChunks>
DEVICE int swizzled(int r, int c) {
  static_assert(kRowChunks % 4 == 0);
  return r * kRowChunks + (kRowChunks % 8 == 0 ? c ^ (r & 7) : c ^ (r >> 1 & 3));
}

/// Starts copying kRows rows of kRowChunks chunks, `stride` chunks apart; from row `valid` on, zeroes.
template <int kRows, int kRowChunks, int kThreads>
DEVICE void load_rows(Chunk* to, const Chunk* from, int stride, int valid) {
  static_assert(kRows * kRowChunks % kThreads == 0);
  UNROLL_BY_2 for (int j = 0; j < kRows * kRowChunks / kThreads; ++j) {
    const int i = j * kThreads + thread_index(), r = i / kRowChunks, c = i % kRowChunks;
    const bool inside = r < valid;
    cp_async16(&to[swizzled<kRowChunks>(r, c)], from + static_cast<size_t>(inside ? r : 0) * stride + c, inside);
  }
}

}  // namespace matryoshka::cuda
