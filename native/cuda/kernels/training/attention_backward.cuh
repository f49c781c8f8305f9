// Attention on its way back, in two kernels so that every sum has one owner and one order: one block of queries of one head
// at a time for their own gradient, then one block of keys. With S = scale Q Kᵀ, P = softmax S, O = P V:
//   dP = dO Vᵀ,  δ = rowsum(P ∘ dP),  dS = P ∘ (dP - δ),  dQ = scale dS K,  dK = scale dSᵀ Q,  dV = Pᵀ dO
// (Dao 2023, FlashAttention-2; P is formed again from each row's logarithm of its sum.)
#pragma once

#include "cuda/instructions/math.cuh"
#include "cuda/instructions/mma.cuh"
#include "cuda/kernels/attention.cuh"

namespace matryoshka::cuda {

struct AttentionBackwardArgs : AttentionArgs {
  const void* context_gradient;  ///< as query
  void* query_gradient;          ///< as query
  void* key_value_gradient;      ///< as key_value
  float *sums, *deltas;          ///< [query rows, heads]: log2 of a row's sum, and its δ; the first kernel leaves them to the second
};

template <class E, int kDim>
struct AttentionBackward {
  static constexpr int D = kDim, BM = 64, BN = kDim > 64 ? 32 : 64, kThreads = 128, C = D / kPerChunk<E>;
  static constexpr int kShared = 2 * (BM + BN) * D * 2 + 2 * BN * 4;  ///< two operands that stay, two that pass, sums and deltas of queries

  /// x[16 rows of this warp, BN columns] = rows · columnsᵀ over the head dimension.
  static DEVICE void scores(const Chunk* rows, const Chunk* columns, float (&x)[BN / 8][4]) {
    const int lane = thread_index() % 32, warp_row = thread_index() / 32 * 16;
    UNROLL for (int j = 0; j < BN / 8; ++j)
      UNROLL for (int e = 0; e < 4; ++e) x[j][e] = 0;
    UNROLL for (int k = 0; k < D / 16; ++k) {
      uint32_t a[4];
      ldmatrix_x4(a, &rows[swizzled<C>(warp_row + lane % 16, k * 2 + lane / 16)]);
      UNROLL for (int j = 0; j < BN / 16; ++j) {
        uint32_t b[4];
        ldmatrix_x4(b, &columns[swizzled<C>(j * 16 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2)]);
        mma<E>(x[2 * j], a, b[0], b[1]);
        mma<E>(x[2 * j + 1], a, b[2], b[3]);
      }
    }
  }

  /// out[16 rows of this warp, D] += x · values, x rounded to elements.
  static DEVICE void add_product(const float (&x)[BN / 8][4], const Chunk* values, float (&out)[D / 8][4]) {
    const int lane = thread_index() % 32;
    UNROLL for (int k = 0; k < BN / 16; ++k) {  // the layout of accumulators is that of an operand
      const uint32_t a[4] = {pack<E>(x[2 * k][0], x[2 * k][1]), pack<E>(x[2 * k][2], x[2 * k][3]),
                             pack<E>(x[2 * k + 1][0], x[2 * k + 1][1]), pack<E>(x[2 * k + 1][2], x[2 * k + 1][3])};
      UNROLL for (int j = 0; j < D / 16; ++j) {
        uint32_t b[4];
        ldmatrix_x4_transposed(b, &values[swizzled<C>(k * 16 + lane % 16, j * 2 + lane / 16)]);
        mma<E>(out[2 * j], a, b[0], b[1]);
        mma<E>(out[2 * j + 1], a, b[2], b[3]);
      }
    }
  }

  /// Rows `first` + this warp's to a matrix of `stride` elements a row, those before `rows`.
  static DEVICE void put(const float (&x)[D / 8][4], float factor, E* to, size_t stride, int rows) {
    const int lane = thread_index() % 32, warp_row = thread_index() / 32 * 16;
    UNROLL for (int half = 0; half < 2; ++half) {
      const int r = warp_row + lane / 4 + half * 8;
      if (r >= rows) continue;
      UNROLL for (int j = 0; j < D / 8; ++j)
        store(reinterpret_cast<uint32_t*>(to + r * stride + j * 8 + lane % 4 * 2), pack<E>(x[j][half * 2] * factor, x[j][half * 2 + 1] * factor));
    }
  }
};

/// The queries' gradient, sums and deltas.
template <class E, int kDim>
KERNEL(128, 2)
attention_query_gradient(AttentionBackwardArgs args) {
  using A = AttentionBackward<E, kDim>;
  constexpr int D = A::D, BM = A::BM, BN = A::BN, C = A::C;
  Chunk* const queries = reinterpret_cast<Chunk*>(shared_memory());
  Chunk* const gradients = queries + BM * C;
  Chunk* const keys = gradients + BM * C;
  Chunk* const values = keys + BN * C;
  const int lane = thread_index() % 32, warp_row = thread_index() / 32 * 16;
  const int width = args.heads * C, items = AttentionItem::count(args);
  const float scale = args.scale * 1.442695041f;

  for (int index = block_index(); index < items; index += block_count()) {
    const AttentionItem item = AttentionItem::at(args, index, BM);
    const size_t at = static_cast<size_t>(item.first_query) * width + item.head * C;
    load_rows<BM, C, A::kThreads>(queries, static_cast<const Chunk*>(args.query) + at, width, item.queries);
    load_rows<BM, C, A::kThreads>(gradients, static_cast<const Chunk*>(args.context_gradient) + at, width, item.queries);
    const Chunk* const key = static_cast<const Chunk*>(args.key_value) + static_cast<size_t>(item.first_key) * 2 * width + item.head * C;
    const int blocks = (item.keys + BN - 1) / BN;
    float s[BN / 8][4], p[BN / 8][4];
    /// s: scores in powers of two, -inf past the last key; p: the gradient of the probabilities.
    const auto next_block = [&](int block) {
      sync_block();  // nobody reads the last block any more
      const Chunk* const from = key + static_cast<size_t>(block) * BN * 2 * width;
      load_rows<BN, C, A::kThreads>(keys, from, 2 * width, item.keys - block * BN);
      load_rows<BN, C, A::kThreads>(values, from + width, 2 * width, item.keys - block * BN);
      cp_async_commit();
      cp_async_wait<0>();
      sync_block();
      A::scores(queries, keys, s);
      A::scores(gradients, values, p);
      UNROLL for (int j = 0; j < BN / 8; ++j)
        UNROLL for (int e = 0; e < 4; ++e) s[j][e] = block * BN + j * 8 + lane % 4 * 2 + e % 2 < item.keys ? s[j][e] * scale : -INFINITY;
    };

    float top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0}, delta[2] = {0, 0};
    for (int block = 0; block < blocks; ++block) {
      next_block(block);
      UNROLL for (int half = 0; half < 2; ++half) {
        float now = top[half];
        UNROLL for (int j = 0; j < BN / 8; ++j)
          UNROLL for (int e = 0; e < 2; ++e) now = fmaxf(now, s[j][half * 2 + e]);
        now = fmaxf(now, shuffle_xor(now, 1));
        now = fmaxf(now, shuffle_xor(now, 2));
        const float shrink = exp2_fast(top[half] - now);  // 0 at first; every block has a key for everybody
        top[half] = now;
        total[half] *= shrink;
        delta[half] *= shrink;
        UNROLL for (int j = 0; j < BN / 8; ++j)
          UNROLL for (int e = 0; e < 2; ++e) {
            const float x = exp2_fast(s[j][half * 2 + e] - now);
            total[half] += x;
            delta[half] += x * p[j][half * 2 + e];
          }
      }
    }
    float log_sum[2];
    UNROLL for (int half = 0; half < 2; ++half) {
      for (int mask = 1; mask < 4; mask *= 2) {
        total[half] += shuffle_xor(total[half], mask);
        delta[half] += shuffle_xor(delta[half], mask);
      }
      delta[half] /= total[half];
      log_sum[half] = top[half] + log2f(total[half]);
      const int r = warp_row + lane / 4 + half * 8;
      if (lane % 4 != 0 || r >= item.queries) continue;
      store(args.sums + static_cast<size_t>(item.first_query + r) * args.heads + item.head, log_sum[half]);
      store(args.deltas + static_cast<size_t>(item.first_query + r) * args.heads + item.head, delta[half]);
    }

    float out[D / 8][4] = {};
    for (int block = 0; block < blocks; ++block) {
      if (blocks > 1) next_block(block);  // else it is still there
      UNROLL for (int j = 0; j < BN / 8; ++j)
        UNROLL for (int e = 0; e < 4; ++e) s[j][e] = exp2_fast(s[j][e] - log_sum[e / 2]) * (p[j][e] - delta[e / 2]);
      A::add_product(s, keys, out);
    }
    A::put(out, args.scale, static_cast<E*>(args.query_gradient) + at * kPerChunk<E>, static_cast<size_t>(width) * kPerChunk<E>, item.queries);
    sync_block();  // the next item fills the operands anew
  }
}

/// The keys' and values' gradients; a block of keys is an item of `active.work`, whoever the queries are.
template <class E, int kDim>
KERNEL(128, 2)
attention_key_gradient(AttentionBackwardArgs args) {
  using A = AttentionBackward<E, kDim>;
  constexpr int D = A::D, BM = A::BM, BN = A::BN, C = A::C;
  Chunk* const keys = reinterpret_cast<Chunk*>(shared_memory());
  Chunk* const values = keys + BM * C;
  Chunk* const queries = values + BM * C;
  Chunk* const gradients = queries + BN * C;
  float* const sums = reinterpret_cast<float*>(gradients + BN * C);
  float* const deltas = sums + BN;
  const int lane = thread_index() % 32, width = args.heads * C, items = load(args.active.counts + kWorkItems) * args.heads;
  const float scale = args.scale * 1.442695041f;

  for (int index = block_index(); index < items; index += block_count()) {
    const int head = index % args.heads, work = load(args.active.work + index / args.heads);
    const int sequence = work >> kBlockBits, block = work & ((1 << kBlockBits) - 1);
    const int begin = load(args.active.cu_seqlens + sequence), end = load(args.active.cu_seqlens + sequence + 1);
    const int first_key = begin + block * BM, left = end - first_key;
    const int first_query = args.scoring ? sequence : begin, query_count = args.scoring ? 1 : end - begin;
    const size_t at = static_cast<size_t>(first_key) * 2 * width + head * C;
    load_rows<BM, C, A::kThreads>(keys, static_cast<const Chunk*>(args.key_value) + at, 2 * width, left);
    load_rows<BM, C, A::kThreads>(values, static_cast<const Chunk*>(args.key_value) + at + width, 2 * width, left);

    float key_out[D / 8][4] = {}, value_out[D / 8][4] = {};
    for (int first = 0; first < query_count; first += BN) {
      sync_block();  // nobody reads the last block any more
      const size_t from = static_cast<size_t>(first_query + first) * width + head * C;
      load_rows<BN, C, A::kThreads>(queries, static_cast<const Chunk*>(args.query) + from, width, query_count - first);
      load_rows<BN, C, A::kThreads>(gradients, static_cast<const Chunk*>(args.context_gradient) + from, width, query_count - first);
      cp_async_commit();
      if (thread_index() < BN) {
        const int q = first + thread_index();
        const size_t row = static_cast<size_t>(first_query + q) * args.heads + head;
        store_shared(sums + thread_index(), q < query_count ? load(args.sums + row) : INFINITY);  // a probability of 0
        store_shared(deltas + thread_index(), q < query_count ? load(args.deltas + row) : 0.f);
      }
      cp_async_wait<0>();
      sync_block();
      float s[BN / 8][4], p[BN / 8][4];
      A::scores(keys, queries, s);
      A::scores(values, gradients, p);
      UNROLL for (int j = 0; j < BN / 8; ++j) {
        const FloatPair sum = load_shared(reinterpret_cast<const FloatPair*>(sums + j * 8 + lane % 4 * 2));
        const FloatPair delta = load_shared(reinterpret_cast<const FloatPair*>(deltas + j * 8 + lane % 4 * 2));
        UNROLL for (int e = 0; e < 4; ++e) {
          s[j][e] = exp2_fast(s[j][e] * scale - (e % 2 ? sum.high : sum.low));
          p[j][e] = s[j][e] * (p[j][e] - (e % 2 ? delta.high : delta.low));
        }
      }
      A::add_product(s, gradients, value_out);
      A::add_product(p, queries, key_out);
    }
    E* const to = static_cast<E*>(args.key_value_gradient) + at * kPerChunk<E>;
    const size_t stride = static_cast<size_t>(2 * width) * kPerChunk<E>;
    A::put(key_out, args.scale, to, stride, left);
    A::put(value_out, 1, to + width * kPerChunk<E>, stride, left);
    sync_block();  // the next item fills the operands anew
  }
}

}  // namespace matryoshka::cuda
