// Flash attention in single precision, for reference quality: plain multiply-adds over tiles of 32 queries × 32 keys.
#pragma once

#include "cuda/instructions/element.cuh"
#include "cuda/instructions/math.cuh"
#include "cuda/kernels/attention.cuh"

namespace matryoshka::cuda {

template <int kDim>
struct AttentionFma {
  static constexpr int D = kDim, BM = 32, BN = 32, kThreads = 64, kRowChunks = D / 4;
  static constexpr int kWeightStride = BN + 8;  ///< floats a row of P: four rows apart fall into different banks
  static constexpr int kShared = (BM + 2 * BN) * D * 4 + BM * kWeightStride * 4;
};

/// 8 × 8 threads; thread (y, x) owns rows y + 8i, keys x + 8j, and chunks x + 8n of the output.
template <int kDim, class Variant = Bidirectional>
KERNEL(64, 1)
attention_fma(typename Variant::Args args) {
  using A = AttentionFma<kDim>;
  constexpr int BM = A::BM, BN = A::BN, C = A::kRowChunks;
  Chunk* const queries = reinterpret_cast<Chunk*>(shared_memory());
  Chunk* const key = queries + BM * C;
  Chunk* const value = key + BN * C;
  float* const weights = reinterpret_cast<float*>(value + BN * C);
  const int y = thread_index() / 8, x = thread_index() % 8;
  const int width = args.heads * C, key_width = args.key_heads * C, items = AttentionItem::count(args);

  for (int index = block_index(); index < items; index += block_count()) {
    const AttentionItem item = AttentionItem::at(args, index, BM);
    const Chunk* const keys = static_cast<const Chunk*>(args.key_value) + static_cast<size_t>(item.first_key) * 2 * key_width + item.key_head * C;
    load_rows<BM, C, A::kThreads>(queries, static_cast<const Chunk*>(args.query) + static_cast<size_t>(item.first_query) * width + item.head * C,
                                  width, item.queries);
    float out[4][C / 8][4] = {}, top[4], total[4] = {};
    UNROLL for (int i = 0; i < 4; ++i) top[i] = -INFINITY;

    const int end = item.template end_block<Variant>(BN) * BN;
    for (int first = item.template first_block<Variant>(args, BN) * BN; first < end; first += BN) {
      const Chunk* const from = keys + static_cast<size_t>(first) * 2 * key_width;
      load_rows<BN, C, A::kThreads>(key, from, 2 * key_width, item.keys - first);
      load_rows<BN, C, A::kThreads>(value, from + key_width, 2 * key_width, item.keys - first);
      cp_async_commit();
      cp_async_wait<0>();
      sync_block();

      float s[4][4] = {};
      for (int c = 0; c < C; ++c) {
        float a[4][4], b[4][4];
        UNROLL for (int i = 0; i < 4; ++i) {
          widen<float>(load_shared(&queries[swizzled<C>(y + 8 * i, c)]), a[i]);
          widen<float>(load_shared(&key[swizzled<C>(x + 8 * i, c)]), b[i]);
        }
        UNROLL for (int k = 0; k < 4; ++k)
          UNROLL for (int i = 0; i < 4; ++i)
            UNROLL for (int j = 0; j < 4; ++j) s[i][j] += a[i][k] * b[j][k];
      }

      UNROLL for (int i = 0; i < 4; ++i) {  // online softmax
        float now = top[i];
        UNROLL for (int j = 0; j < 4; ++j) {
          s[i][j] *= args.scale;
          if constexpr (Variant::kCaps) s[i][j] = args.softcap * tanhf(s[i][j] / args.softcap);
          if (!item.template sees<Variant>(args, y + 8 * i, first + x + 8 * j)) s[i][j] = -INFINITY;
          now = fmaxf(now, s[i][j]);
        }
        UNROLL for (int mask = 1; mask < 8; mask *= 2) now = fmaxf(now, shuffle_xor(now, mask));
        const float shift = Variant::kMasks && now == -INFINITY ? 0 : now;
        const float shrink = expf(top[i] - shift);
        top[i] = now;
        total[i] *= shrink;
        UNROLL for (int n = 0; n < C / 8; ++n)
          UNROLL for (int e = 0; e < 4; ++e) out[i][n][e] *= shrink;
        UNROLL for (int j = 0; j < 4; ++j) {
          const float p = expf(s[i][j] - shift);
          total[i] += p;
          store_shared(&weights[(y + 8 * i) * A::kWeightStride + x + 8 * j], p);
        }
      }
      sync_block();

      for (int k0 = 0; k0 < BN; k0 += 4) {
        float p[4][4];
        UNROLL for (int i = 0; i < 4; ++i)
          widen<float>(load_shared(reinterpret_cast<const Chunk*>(&weights[(y + 8 * i) * A::kWeightStride + k0])), p[i]);
        UNROLL for (int k = 0; k < 4; ++k)
          UNROLL for (int n = 0; n < C / 8; ++n) {
            float v[4];
            widen<float>(load_shared(&value[swizzled<C>(k0 + k, x + 8 * n)]), v);
            UNROLL for (int i = 0; i < 4; ++i)
              UNROLL for (int e = 0; e < 4; ++e) out[i][n][e] += p[i][k] * v[e];
          }
      }
      sync_block();  // the next round refills keys, values and weights
    }

    Chunk* const context = static_cast<Chunk*>(args.context) + static_cast<size_t>(item.first_query) * width + item.head * C;
    UNROLL for (int i = 0; i < 4; ++i) {
      float sum = total[i];
      UNROLL for (int mask = 1; mask < 8; mask *= 2) sum += shuffle_xor(sum, mask);
      const int r = y + 8 * i;
      if (r >= item.queries) continue;
      UNROLL for (int n = 0; n < C / 8; ++n) {
        float scaled[4];
        UNROLL for (int e = 0; e < 4; ++e) scaled[e] = out[i][n][e] / sum;
        store(context + static_cast<size_t>(r) * width + x + 8 * n, narrow<float>(scaled));
      }
    }
  }
}

}  // namespace matryoshka::cuda
