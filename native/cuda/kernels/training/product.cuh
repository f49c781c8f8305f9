// The three products of training, over operands as they lie: C[m, n] = Σ_k A[m, k] B[n, k], where either may be stored with
// k as its rows.
//   forward           y = x Wᵀ + b     A = x [rows, in]               B = W [out, in]
//   input's gradient  dx = dy W        A = dy [rows, out]             B = W, k (out) its rows
//   weight's gradient dW = dyᵀ x       A = dy, k (tokens) its rows    B = x, k its rows
// k may be cut into splits of a length that the host fixes; each leaves a partial sum of its own, so that sums have one
// order on every device.
#pragma once

#include "cuda/instructions/mma.cuh"
#include "cuda/kernels/tile.cuh"

namespace matryoshka::cuda {

struct ProductArgs {
  const void *a, *b;  ///< 16-bit elements, no gaps between rows; rows that k does not run along are multiples of 64 long
  int m, n, k;        ///< k along rows: a multiple of 32
  int split;          ///< of k: a multiple of 32; at least k for one
  const float* bias;  ///< [n], or null
  void* elements;     ///< [m, n] of 16 bits; or null:
  float* sums;        ///< [splits, m, n]
  bool accumulate;    ///< into sums
};

template <class E, bool kARows, bool kBRows>
class ProductTile {
 public:
  static constexpr int BM = 128, BN = 128, BK = 32, kThreads = 128, kStages = 4;
  static constexpr int kStageChunks = (BM + BN) * BK / 8, kShared = kStages * kStageChunks * 16;

  DEVICE ProductTile(const ProductArgs& args, int m0, int n0, int k_end) : args_(args), m0_(m0), n0_(n0), k_end_(k_end) {}

  DEVICE void start(int k0, Chunk* stage) const {
    start_operand<kARows, BM>(args_.a, args_.m, m0_, k0, stage);
    start_operand<kBRows, BN>(args_.b, args_.n, n0_, k0, stage + BM * BK / 8);
  }

  DEVICE void multiply(const Chunk* stage) {
    const Chunk* const other = stage + BM * BK / 8;
    const int lane = thread_index() % 32;
    UNROLL for (int k = 0; k < BK / 16; ++k) {
      uint32_t a[4][4], b[4][4];
      UNROLL for (int i = 0; i < 4; ++i) {
        if (kARows) ldmatrix_x4_transposed(a[i], &stage[swizzled<BM / 8>(k * 16 + lane % 8 + lane / 16 * 8, row() / 8 + i * 2 + lane / 8 % 2)]);
        else ldmatrix_x4(a[i], &stage[swizzled<BK / 8>(row() + i * 16 + lane % 16, k * 2 + lane / 16)]);
      }
      UNROLL for (int j = 0; j < 4; ++j) {
        if (kBRows) ldmatrix_x4_transposed(b[j], &other[swizzled<BN / 8>(k * 16 + lane % 16, column() / 8 + j * 2 + lane / 16)]);
        else ldmatrix_x4(b[j], &other[swizzled<BK / 8>(column() + j * 16 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2)]);
      }
      UNROLL for (int i = 0; i < 4; ++i)
        UNROLL for (int j = 0; j < 8; ++j) mma<E>(sum_[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }

  DEVICE void finish(int split) const {
    const int lane = thread_index() % 32;
    UNROLL for (int j = 0; j < 8; ++j) {
      const int c = n0_ + column() + j * 8 + lane % 4 * 2;
      if (c >= args_.n) continue;
      const FloatPair bias = args_.bias ? load(reinterpret_cast<const FloatPair*>(args_.bias + c)) : FloatPair{0, 0};
      UNROLL for (int i = 0; i < 4; ++i)
        UNROLL for (int half = 0; half < 2; ++half) {
          const int r = m0_ + row() + i * 16 + lane / 4 + half * 8;
          if (r >= args_.m) continue;
          const size_t at = (static_cast<size_t>(split) * args_.m + r) * args_.n + c;
          FloatPair out = {sum_[i][j][half * 2] + bias.low, sum_[i][j][half * 2 + 1] + bias.high};
          if (args_.elements) {
            store(reinterpret_cast<uint32_t*>(static_cast<E*>(args_.elements) + at), pack<E>(out.low, out.high));
            continue;
          }
          const auto to = reinterpret_cast<FloatPair*>(args_.sums + at);
          if (args_.accumulate) {
            const FloatPair before = load(to);
            out = {before.low + out.low, before.high + out.high};
          }
          store(to, out);
        }
    }
  }

 private:
  /// kWide rows of 32 k, or 32 rows of kWide; zeroes past either end.
  template <bool kRows, int kWide>
  DEVICE void start_operand(const void* operand, int wide, int first, int k0, Chunk* to) const {
    constexpr int kTileRows = kRows ? BK : kWide, kTileChunks = (kRows ? kWide : BK) / 8;
    const int stride = (kRows ? wide : args_.k) / 8;
    const int rows = kRows ? k_end_ - k0 : wide - first, chunks = (kRows ? wide - first : k_end_ - k0) / 8;
    const Chunk* const from = static_cast<const Chunk*>(operand) + static_cast<size_t>(kRows ? k0 : first) * stride + (kRows ? first : k0) / 8;
    UNROLL for (int j = 0; j < kTileRows * kTileChunks / kThreads; ++j) {
      const int i = j * kThreads + thread_index(), r = i / kTileChunks, c = i % kTileChunks;
      const bool inside = r < rows && c < chunks;
      cp_async16(&to[swizzled<kTileChunks>(r, c)], inside ? from + static_cast<size_t>(r) * stride + c : static_cast<const Chunk*>(operand), inside);
    }
  }

  static DEVICE int row() { return thread_index() / 64 * 64; }
  static DEVICE int column() { return thread_index() / 32 % 2 * 64; }

  const ProductArgs& args_;
  int m0_, n0_, k_end_;
  float sum_[4][8][4] = {};  // warps of 2 × 2, a quarter of the tile each
};

template <class E, bool kARows, bool kBRows>
KERNEL(128, 2)
product(ProductArgs args) {
  using T = ProductTile<E, kARows, kBRows>;
  Chunk* const ring = reinterpret_cast<Chunk*>(shared_memory());
  const int tiles_n = (args.n + T::BN - 1) / T::BN, tiles = (args.m + T::BM - 1) / T::BM * tiles_n;
  const int splits = (args.k + args.split - 1) / args.split;

  for (int item = block_index(); item < tiles * splits; item += block_count()) {
    const int tile = item % tiles, split = item / tiles, k0 = split * args.split;
    const int k_end = k0 + args.split < args.k ? k0 + args.split : args.k, steps = (k_end - k0 + T::BK - 1) / T::BK;
    T product(args, tile / tiles_n * T::BM, tile % tiles_n * T::BN, k_end);

    for (int s = 0; s < T::kStages - 1; ++s) {
      if (s < steps) product.start(k0 + s * T::BK, ring + s * T::kStageChunks);
      cp_async_commit();
    }
    for (int step = 0; step < steps; ++step) {
      cp_async_wait<T::kStages - 2>();
      sync_block();  // everybody's copies of this stage have landed, and nobody still reads the one refilled next
      const int next = step + T::kStages - 1;
      if (next < steps) product.start(k0 + next * T::BK, ring + next % T::kStages * T::kStageChunks);
      cp_async_commit();
      product.multiply(ring + step % T::kStages * T::kStageChunks);
    }
    cp_async_wait<0>();
    sync_block();  // the next tile fills the ring anew
    product.finish(split);
  }
}

}  // namespace matryoshka::cuda
