// Rotary positions (Su et al. 2021, RoFormer, §3.2.2), in place: elements i and i + d / 2 of a head are a point in the
// plane, turned by position · theta^(-2i / d). The paper pairs neighbours, Hugging Face's `rotate_half` these; a warp a row.
#pragma once

#include "cuda/kernels/active_set.cuh"
#include "cuda/kernels/row.cuh"

namespace matryoshka::cuda {

struct RopeArgs {
  ActiveSetView active;
  void* rows;          ///< queries or [keys values]; `stride` elements a row, of which the first heads · d are turned
  const float* table;  ///< [positions, d], from fill_rope_table
  bool scoring;        ///< row s is that of sequence s's last token; else a row a token
  int heads, stride;
  int query_block;     ///< rows that are one item of the active set's work
};

/// A position's d / 2 cosines, then its sines. Rounded once: single-precision angles would be off by t · 2^-24.
inline void fill_rope_table(float* table, int positions, int dim, double theta) {
  for (int t = 0; t < positions; ++t)
    for (int i = 0; i < dim / 2; ++i) {
      const double angle = t * std::pow(theta, -2.0 * i / dim);
      table[static_cast<size_t>(t) * dim + i] = static_cast<float>(std::cos(angle));
      table[static_cast<size_t>(t) * dim + dim / 2 + i] = static_cast<float>(std::sin(angle));
    }
}

/// A lane has one chunk of the lower half of every 32 / kHalf'th head, and the chunk that it pairs with: one set of angles.
template <class E, int kDim>
KERNEL(kRowThreads, 1)
rope(RopeArgs args) {
  constexpr int kHalf = kDim / 2 / kPerChunk<E>, kQuads = kPerChunk<E> / 4;
  static_assert(kHalf > 0 && 32 % kHalf == 0);
  const int lane = thread_index() % 32, c = lane % kHalf;
  const int block = args.scoring ? 1 : args.query_block;
  const int places = load(args.active.counts + (args.scoring ? kSequences : kWorkItems)) * block;

  for (int place = first_row(); place < places; place += row_step()) {
    const int work = args.scoring ? place << kBlockBits : load(args.active.work + place / block), sequence = work >> kBlockBits;
    const int begin = load(args.active.cu_seqlens + sequence), length = load(args.active.cu_seqlens + sequence + 1) - begin;
    const int position = args.scoring ? length - 1 : (work & ((1 << kBlockBits) - 1)) * block + place % block;
    if (position >= length) continue;

    const Chunk* const angles = reinterpret_cast<const Chunk*>(args.table + static_cast<size_t>(position) * kDim) + c * kQuads;
    float cosine[kQuads][4], sine[kQuads][4];
    UNROLL for (int q = 0; q < kQuads; ++q) {
      widen<float>(load(angles + q), cosine[q]);
      widen<float>(load(angles + kDim / 8 + q), sine[q]);
    }
    Chunk* const row = static_cast<Chunk*>(row_of<E>(args.rows, args.scoring ? sequence : begin + position, args.stride));
    for (int head = lane / kHalf; head < args.heads; head += 32 / kHalf) {
      Chunk* const low = row + head * 2 * kHalf + c;
      Chunk* const high = low + kHalf;
      float x[kPerChunk<E>], y[kPerChunk<E>];
      widen<E>(load(low), x);
      widen<E>(load(high), y);
      UNROLL for (int e = 0; e < kPerChunk<E>; ++e) {
        const float cos = cosine[e / 4][e % 4], sin = sine[e / 4][e % 4], was = x[e];
        x[e] = was * cos - y[e] * sin;
        y[e] = y[e] * cos + was * sin;
      }
      store(low, narrow<E>(x));
      store(high, narrow<E>(y));
    }
  }
}

}  // namespace matryoshka::cuda
