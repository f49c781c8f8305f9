// The GEMM for bf16 and f16: tensor cores, fed by ldmatrix.
#pragma once

#include "cuda/instructions/mma.cuh"
#include "cuda/kernels/gemm.cuh"

namespace matryoshka::cuda {

/// Warps of 2 × 2, each owning a quarter of the tile in accumulators.
template <class T>
class MmaProduct {
 public:
  static_assert(T::kThreads == 128);

  DEVICE void multiply(const Chunk* stage) {
    const Chunk* const weights = stage + T::BM * T::kRowChunks;
    const int lane = thread_index() % 32;
    UNROLL for (int k = 0; k < T::BK / 16; ++k) {
      uint32_t a[WM / 16][4], b[WN / 16][4];
      UNROLL for (int i = 0; i < WM / 16; ++i)
        ldmatrix_x4(a[i], &stage[swizzled<T::kRowChunks>(row() + i * 16 + lane % 16, k * 2 + lane / 16)]);
      UNROLL for (int j = 0; j < WN / 16; ++j)
        ldmatrix_x4(b[j], &weights[swizzled<T::kRowChunks>(column() + j * 16 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2)]);
      UNROLL for (int i = 0; i < WM / 16; ++i)
        UNROLL for (int j = 0; j < WN / 8; ++j) mma<E>(sum_[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }

  /// Through shared memory, so that global memory is written in whole 16-byte chunks of rows.
  template <Activation kActivation, bool kGated>
  DEVICE void finish(const GemmArgs& args, int m, int m0, int n0, Chunk* staging) const {
    constexpr int kColumns = kGated ? 2 : 1;  // that one output is made of
    constexpr int kRowChunks = T::BN / kColumns / kPerChunk<E>, kUp = kGateColumns / 8;
    static_assert(T::BM * kRowChunks * 16 <= T::kShared && WN % (2 * kGateColumns) == 0);
    const int lane = thread_index() % 32;
    UNROLL for (int j = 0; j < WN / 8; ++j) {
      if (kGated && j / kUp % 2) continue;  // ups, used with their gates
      const int c = column() + j * 8, to = kGated ? gated_column(c) : c;
      const auto bias_at = [&](int at) { return load(reinterpret_cast<const FloatPair*>(args.bias + n0 + at + lane % 4 * 2)); };
      const FloatPair bias = bias_at(c), up_bias = kGated ? bias_at(c + kGateColumns) : FloatPair{};
      UNROLL for (int i = 0; i < WM / 16; ++i)
        UNROLL for (int half = 0; half < 2; ++half) {
          const int r = row() + i * 16 + lane / 4 + half * 8;
          float low = activate<kActivation, false>(sum_[i][j][half * 2] + bias.low);
          float high = activate<kActivation, false>(sum_[i][j][half * 2 + 1] + bias.high);
          if constexpr (kGated) {
            low *= sum_[i][j + kUp][half * 2] + up_bias.low;
            high *= sum_[i][j + kUp][half * 2 + 1] + up_bias.high;
          }
          store_shared(&staging[swizzled<kRowChunks>(r, to / 8)].word[lane % 4], pack<E>(low, high));
        }
    }
    sync_block();
    UNROLL_BY_2 for (int j = 0; j < T::BM * kRowChunks / T::kThreads; ++j) {
      const int i = j * T::kThreads + thread_index(), r = i / kRowChunks, c = i % kRowChunks;
      if (m0 + r < m)
        store(static_cast<Chunk*>(args.output) + (static_cast<size_t>(m0 + r) * args.n + n0) / kColumns / kPerChunk<E> + c,
              load_shared(&staging[swizzled<kRowChunks>(r, c)]));
    }
    sync_block();  // the next tile fills the ring anew
  }

 private:
  using E = typename T::Element;
  static constexpr int WM = T::BM / 2, WN = T::BN / 2;

  static DEVICE int row() { return thread_index() / 64 * WM; }
  static DEVICE int column() { return thread_index() / 32 % 2 * WN; }

  float sum_[WM / 16][WN / 8][4] = {};
};

template <class E>
using BigTile = Tile<E, 128, 128, 32, 128, 4>;
template <class E>
using SmallTile = Tile<E, 64, 64, 32, 128, 4>;

/// Big tiles while they fill the grid, small ones for the last survivors.
template <class E, Activation kActivation, bool kGated = false>
KERNEL(128, 1)
gemm_mma(GemmArgs args) {
  using Big = BigTile<E>;
  const int m = load(args.rows);
  if (args.n % Big::BN == 0 && (m + Big::BM - 1) / Big::BM * (args.n / Big::BN) >= block_count())
    gemm_tiles<Big, MmaProduct, kActivation, kGated>(args, m);
  else gemm_tiles<SmallTile<E>, MmaProduct, kActivation, kGated>(args, m);
}

}  // namespace matryoshka::cuda
