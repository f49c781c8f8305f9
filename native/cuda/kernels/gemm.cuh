// output[M, N] = f(input[M, K] · weight[N, K]ᵀ + bias), with M read from device memory: a fixed grid walks over however
// many tiles there are. K ascends within a tile whatever its shape and nothing is split over K, so an output's bits
// depend on its own row and column only. A gated f makes one output of two columns, f(gate) · up (Shazeer 2020, GLU
// Variants Improve Transformer); a thread has both in registers.
#pragma once

#include "cuda/instructions/element.cuh"
#include "cuda/kernels/activation.cuh"
#include "cuda/kernels/tile.cuh"

namespace matryoshka::cuda {

struct GemmArgs {
  const void* input;   ///< rows of k elements
  const int* row_map;  ///< [M] row of `input` that becomes output row r, or null: row r
  const void* weight;  ///< [n, k]; gated, 16 rows of gates and 16 of ups in turn
  const float* bias;   ///< [n], likewise
  void* output;        ///< [M, n]; gated, [M, n / 2]
  const int* rows;     ///< M
  int n, k;            ///< multiples of 64
};

/// How a block cuts its work: BM × BN outputs at a time, K in steps of BK through a ring of kStages stages.
template <class E, int kBm, int kBn, int kBk, int kThreadCount, int kStageCount>
struct Tile {
  using Element = E;
  static constexpr int BM = kBm, BN = kBn, BK = kBk, kThreads = kThreadCount, kStages = kStageCount;
  static constexpr int kRowChunks = BK / kPerChunk<E>;
  static constexpr int kStageChunks = (BM + BN) * kRowChunks;
  static constexpr int kShared = kStages * kStageChunks * 16;
};

/// One thread's part in copying stages: which rows of the input it fetches.
template <class T>
class Loader {
 public:
  DEVICE Loader(const GemmArgs& args, int m, int m0, int n0) : args_(args), n0_(n0) {
    UNROLL for (int j = 0; j < kInputs; ++j) {
      const int row = m0 + (j * T::kThreads + thread_index()) / T::kRowChunks;
      source_[j] = row >= m ? -1 : args.row_map ? load(args.row_map + row) : row;
    }
  }

  DEVICE void start(int k0, Chunk* stage) const {
    const int stride = args_.k / kPerChunk<typename T::Element>, first = k0 / kPerChunk<typename T::Element>;
    UNROLL for (int j = 0; j < kInputs; ++j) {
      const int i = j * T::kThreads + thread_index(), r = i / T::kRowChunks, c = i % T::kRowChunks;
      const bool inside = source_[j] >= 0;
      const Chunk* from = static_cast<const Chunk*>(args_.input) + static_cast<size_t>(inside ? source_[j] : 0) * stride + first + c;
      cp_async16(&stage[swizzled<T::kRowChunks>(r, c)], from, inside);
    }
    const Chunk* weight = static_cast<const Chunk*>(args_.weight) + static_cast<size_t>(n0_) * stride + first;
    load_rows<T::BN, T::kRowChunks, T::kThreads>(stage + T::BM * T::kRowChunks, weight, stride, T::BN);
  }

 private:
  static constexpr int kInputs = T::BM * T::kRowChunks / T::kThreads;
  static_assert(T::BM * T::kRowChunks % T::kThreads == 0);

  const GemmArgs& args_;
  int n0_;
  int source_[kInputs];
};

/// Gated: the ups of columns c to c + 15 follow at c + 16, and this is where their products go.
constexpr int kGateColumns = 16;
DEVICE int gated_column(int c) { return c / (2 * kGateColumns) * kGateColumns + c % kGateColumns; }

/// Walks over the tiles. Product<T> multiplies stages into accumulators and stores them.
template <class T, template <class> class Product, Activation kActivation, bool kGated>
DEVICE void gemm_tiles(const GemmArgs& args, int m) {
  Chunk* const ring = reinterpret_cast<Chunk*>(shared_memory());
  const int tiles_n = args.n / T::BN, tiles = (m + T::BM - 1) / T::BM * tiles_n, steps = args.k / T::BK;

  for (int tile = block_index(); tile < tiles; tile += block_count()) {
    const int m0 = tile / tiles_n * T::BM, n0 = tile % tiles_n * T::BN;
    const Loader<T> loader(args, m, m0, n0);
    Product<T> product;

    for (int s = 0; s < T::kStages - 1; ++s) {
      if (s < steps) loader.start(s * T::BK, ring + s * T::kStageChunks);
      cp_async_commit();
    }
    for (int step = 0; step < steps; ++step) {
      cp_async_wait<T::kStages - 2>();
      sync_block();  // everybody's copies of this stage have landed, and nobody still reads the one refilled next
      const int next = step + T::kStages - 1;
      if (next < steps) loader.start(next * T::BK, ring + next % T::kStages * T::kStageChunks);
      cp_async_commit();
      product.multiply(ring + step % T::kStages * T::kStageChunks);
    }
    cp_async_wait<0>();
    sync_block();  // the ring is free: for staging the result, and for the next tile
    product.template finish<kActivation, kGated>(args, m, m0, n0, ring);
  }
}

}  // namespace matryoshka::cuda
