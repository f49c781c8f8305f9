// Flash attention for bf16 and f16: keys and values pass through shared memory once, in two stages; scores never leave
// registers.
#pragma once

#include "cuda/instructions/math.cuh"
#include "cuda/instructions/mma.cuh"
#include "cuda/kernels/attention.cuh"

namespace matryoshka::cuda {

template <class E, int kDim>
struct AttentionMma {
  static constexpr int D = kDim, BM = 64, BN = kDim > 64 ? 32 : 64, kThreads = 128, kRowChunks = D / kPerChunk<E>;
  static constexpr bool kKeepQueries = D <= 32;  ///< in registers; wider ones are read again for every block of keys
  static constexpr int kShared = (BM + 4 * BN) * D * 2;  ///< queries, and two stages of keys and values
};

/// 16 rows of queries a warp; of them a thread holds two, L / 4 and L / 4 + 8, a quarter of the columns each.
template <class E, int kDim, class Variant = Bidirectional>
KERNEL(128, kDim <= 64 ? 3 : 2)
attention_mma(typename Variant::Args args) {
  using A = AttentionMma<E, kDim>;
  constexpr int D = A::D, BM = A::BM, BN = A::BN, C = A::kRowChunks;
  constexpr float kLog2e = 1.442695041f;
  Chunk* const queries = reinterpret_cast<Chunk*>(shared_memory());
  Chunk* const stages = queries + BM * C;  // stage s: keys, then values
  const int lane = thread_index() % 32, warp_row = thread_index() / 32 * 16;
  const int width = args.heads * C, key_width = args.key_heads * C, items = AttentionItem::count(args);
  const float scale = args.scale * kLog2e;

  for (int index = block_index(); index < items; index += block_count()) {
    const AttentionItem item = AttentionItem::at(args, index, BM);
    const Chunk* const keys = static_cast<const Chunk*>(args.key_value) + static_cast<size_t>(item.first_key) * 2 * key_width + item.key_head * C;
    const auto load_stage = [&](int block) {
      const size_t first = static_cast<size_t>(block) * BN * 2 * key_width;
      Chunk* const stage = stages + block % 2 * 2 * BN * C;
      load_rows<BN, C, A::kThreads>(stage, keys + first, 2 * key_width, item.keys - block * BN);
      load_rows<BN, C, A::kThreads>(stage + BN * C, keys + first + key_width, 2 * key_width, item.keys - block * BN);
    };
    load_rows<BM, C, A::kThreads>(queries, static_cast<const Chunk*>(args.query) + static_cast<size_t>(item.first_query) * width + item.head * C,
                                  width, item.queries);
    const int first_block = item.template first_block<Variant>(args, BN), blocks = item.template end_block<Variant>(BN);
    load_stage(first_block);
    cp_async_commit();

    uint32_t q[A::kKeepQueries ? D / 16 : 1][4];
    const auto load_queries = [&](int k) {
      ldmatrix_x4(q[A::kKeepQueries ? k : 0], &queries[swizzled<C>(warp_row + lane % 16, k * 2 + lane / 16)]);
    };
    float out[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    for (int block = first_block; block < blocks; ++block) {
      if (block + 1 < blocks) load_stage(block + 1);
      cp_async_commit();
      cp_async_wait<1>();
      sync_block();
      const Chunk* const key = stages + block % 2 * 2 * BN * C;
      const Chunk* const value = key + BN * C;

      if (A::kKeepQueries && block == first_block)
        UNROLL for (int k = 0; k < D / 16; ++k) load_queries(k);
      float s[BN / 8][4] = {};
      UNROLL for (int k = 0; k < D / 16; ++k) {
        if (!A::kKeepQueries) load_queries(k);
        UNROLL for (int j = 0; j < BN / 16; ++j) {
          uint32_t b[4];
          ldmatrix_x4(b, &key[swizzled<C>(j * 16 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2)]);
          mma<E>(s[2 * j], q[A::kKeepQueries ? k : 0], b[0], b[1]);
          mma<E>(s[2 * j + 1], q[A::kKeepQueries ? k : 0], b[2], b[3]);
        }
      }

      UNROLL for (int half = 0; half < 2; ++half) {  // online softmax of the thread's two rows, in powers of two
        float now = top[half];
        UNROLL for (int j = 0; j < BN / 8; ++j)
          UNROLL for (int e = 0; e < 2; ++e) {
            float& x = s[j][half * 2 + e];
            if constexpr (Variant::kCaps) x = args.softcap * kLog2e * tanhf(x * args.scale / args.softcap);
            else x *= scale;
            if (!item.template sees<Variant>(args, warp_row + lane / 4 + half * 8, block * BN + j * 8 + lane % 4 * 2 + e)) x = -INFINITY;
            now = fmaxf(now, x);
          }
        now = fmaxf(now, shuffle_xor(now, 1));
        now = fmaxf(now, shuffle_xor(now, 2));
        const float shift = Variant::kMasks && now == -INFINITY ? 0 : now;  // unless it masks, every block has a key for everybody
        const float shrink = exp2_fast(top[half] - shift);                  // 0 at first
        top[half] = now;
        total[half] *= shrink;
        UNROLL for (int j = 0; j < D / 8; ++j) {
          out[j][half * 2] *= shrink;
          out[j][half * 2 + 1] *= shrink;
        }
        UNROLL for (int j = 0; j < BN / 8; ++j)
          UNROLL for (int e = 0; e < 2; ++e) {
            float& x = s[j][half * 2 + e];
            x = exp2_fast(x - shift);
            total[half] += x;
          }
      }

      UNROLL for (int k = 0; k < BN / 16; ++k) {  // the layout of the accumulators of S is that of the operand P
        const uint32_t p[4] = {pack<E>(s[2 * k][0], s[2 * k][1]), pack<E>(s[2 * k][2], s[2 * k][3]),
                               pack<E>(s[2 * k + 1][0], s[2 * k + 1][1]), pack<E>(s[2 * k + 1][2], s[2 * k + 1][3])};
        UNROLL for (int j = 0; j < D / 16; ++j) {
          uint32_t b[4];
          ldmatrix_x4_transposed(b, &value[swizzled<C>(k * 16 + lane % 16, j * 2 + lane / 16)]);
          mma<E>(out[2 * j], p, b[0], b[1]);
          mma<E>(out[2 * j + 1], p, b[2], b[3]);
        }
      }
      sync_block();  // the next round refills the stage just read
    }
    cp_async_wait<0>();

    UNROLL for (int half = 0; half < 2; ++half) {  // over this warp's own queries, which are in registers by now
      float sum = total[half];
      sum += shuffle_xor(sum, 1);
      sum += shuffle_xor(sum, 2);
      const float inverse = 1 / sum;
      const int r = warp_row + lane / 4 + half * 8;
      UNROLL for (int j = 0; j < D / 8; ++j)
        store_shared(&queries[swizzled<C>(r, j)].word[lane % 4], pack<E>(out[j][half * 2] * inverse, out[j][half * 2 + 1] * inverse));
    }
    sync_warp();
    Chunk* const context = static_cast<Chunk*>(args.context) + static_cast<size_t>(item.first_query) * width + item.head * C;
    UNROLL_BY_2 for (int j = 0; j < 16 * C / 32; ++j) {
      const int r = warp_row + (j * 32 + lane) / C, c = (j * 32 + lane) % C;
      if (r < item.queries) store(context + static_cast<size_t>(r) * width + c, load_shared(&queries[swizzled<C>(r, c)]));
    }
    sync_block();  // the next item fills `queries` anew
  }
}

}  // namespace matryoshka::cuda
