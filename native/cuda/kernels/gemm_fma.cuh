// The GEMM in single precision: plain multiply-adds, no TF32.
#pragma once

#include "cuda/kernels/gemm.cuh"

namespace matryoshka::cuda {

/// 16 × 16 threads; thread (y, x) owns rows y + 16i and columns x + 16j, so that a warp stores whole sectors.
template <class T>
class FmaProduct {
 public:
  static_assert(T::kThreads == 256 && T::BM == 64 && T::BN == 64);

  DEVICE void multiply(const Chunk* stage) {
    const Chunk* const weights = stage + T::BM * T::kRowChunks;
    for (int c = 0; c < T::kRowChunks; ++c) {
      float a[4][4], b[4][4];
      UNROLL for (int i = 0; i < 4; ++i) {
        widen<float>(load_shared(&stage[swizzled<T::kRowChunks>(row() + 16 * i, c)]), a[i]);
        widen<float>(load_shared(&weights[swizzled<T::kRowChunks>(column() + 16 * i, c)]), b[i]);
      }
      UNROLL for (int k = 0; k < 4; ++k)
        UNROLL for (int i = 0; i < 4; ++i)
          UNROLL for (int j = 0; j < 4; ++j) sum_[i][j] += a[i][k] * b[j][k];
    }
  }

  template <Activation kActivation, bool kGated>
  DEVICE void finish(const GemmArgs& args, int m, int m0, int n0, Chunk*) const {
    static_assert(kGateColumns == 16);  // an up is the thread's next column
    constexpr int kColumns = kGated ? 2 : 1;  // that one output is made of
    UNROLL for (int j = 0; j < 4; j += kColumns) {
      const int c = n0 + column() + 16 * j, to = kGated ? gated_column(c) : c;
      const float bias = load(args.bias + c), up_bias = kGated ? load(args.bias + c + kGateColumns) : 0;
      UNROLL for (int i = 0; i < 4; ++i) {
        const int r = m0 + row() + 16 * i;
        float out = activate<kActivation, true>(sum_[i][j] + bias);
        if constexpr (kGated) out *= sum_[i][j + 1] + up_bias;
        if (r < m) store(static_cast<float*>(args.output) + static_cast<size_t>(r) * (args.n / kColumns) + to, out);
      }
    }
  }

 private:
  static DEVICE int row() { return thread_index() / 16; }
  static DEVICE int column() { return thread_index() % 16; }

  float sum_[4][4] = {};
};

using FmaTile = Tile<float, 64, 64, 32, 256, 3>;

template <Activation kActivation, bool kGated = false>
KERNEL(256, 1)
gemm_fma(GemmArgs args) {
  gemm_tiles<FmaTile, FmaProduct, kActivation, kGated>(args, load(args.rows));
}

}  // namespace matryoshka::cuda
