// One row of activations in the registers of a warp, and what norms do to it.
#pragma once

#include "cuda/instructions/element.cuh"
#include "cuda/instructions/math.cuh"

namespace matryoshka::cuda {

/// layer: (x - mean) / deviation · weight + bias. The others, of decoders: x / root mean square · weight, or · (1 + weight).
enum class Norm : uint8_t { layer, rms, rms_plus_one };

constexpr int kRowThreads = 256;  ///< a block of the kernels that give each row a warp

/// Warps take rows in turn: `for (int row = first_row(); row < rows; row += row_step())`.
DEVICE int first_row() { return block_index() * (kRowThreads / 32) + thread_index() / 32; }
DEVICE int row_step() { return block_count() * (kRowThreads / 32); }

DEVICE float warp_sum(float x) {
  UNROLL for (int mask = 16; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  return x;
}

/// Up to kWidth elements; lane L holds chunks L, L + 32, …. Rows are `stride` elements apart, those past the model's
/// own `width` zero.
template <class E, int kWidth>
class Row {
 public:
  DEVICE explicit Row(int stride) : stride_(stride) {
    UNROLL for (int i = 0; i < kChunks; ++i)
      UNROLL for (int e = 0; e < kPerChunk<E>; ++e) value_[i][e] = 0;
  }

  /// Adds the row at `from`.
  DEVICE void add(const void* from) {
    UNROLL for (int i = 0; i < kChunks; ++i) {
      if (!inside(i)) continue;
      float v[kPerChunk<E>];
      widen<E>(load(static_cast<const Chunk*>(from) + chunk(i)), v);
      UNROLL for (int e = 0; e < kPerChunk<E>; ++e) value_[i][e] += v[e];
    }
  }

  /// Over the first `width` elements, in two passes over registers, so that nothing cancels. Weight and bias are zero past
  /// the width, which keeps the rest zero; `bias` is a layer norm's only.
  template <Norm kNorm>
  DEVICE void normalize(int width, float eps, const void* weight, const void* bias) {
    float mean = 0, square = 0;
    if constexpr (kNorm == Norm::layer) {
      float sum = 0;
      UNROLL for (int i = 0; i < kChunks; ++i)
        UNROLL for (int e = 0; e < kPerChunk<E>; ++e) sum += value_[i][e];
      mean = warp_sum(sum) / width;
    }
    UNROLL for (int i = 0; i < kChunks; ++i)
      UNROLL for (int e = 0; e < kPerChunk<E>; ++e) {
        const float d = chunk(i) * kPerChunk<E> + e < width ? value_[i][e] - mean : 0;
        square += d * d;
      }
    const float scale = 1 / sqrtf(warp_sum(square) / width + eps);
    UNROLL for (int i = 0; i < kChunks; ++i) {
      if (!inside(i)) continue;
      float w[kPerChunk<E>], b[kPerChunk<E>] = {};
      widen<E>(load(static_cast<const Chunk*>(weight) + chunk(i)), w);
      if constexpr (kNorm == Norm::layer) widen<E>(load(static_cast<const Chunk*>(bias) + chunk(i)), b);
      if constexpr (kNorm == Norm::rms_plus_one)
        UNROLL for (int e = 0; e < kPerChunk<E>; ++e) w[e] += 1;
      UNROLL for (int e = 0; e < kPerChunk<E>; ++e) value_[i][e] = (value_[i][e] - mean) * scale * w[e] + b[e];
    }
  }

  /// Sum over the row of value · weight, in every lane.
  DEVICE float dot(const void* weight) const {
    float sum = 0;
    UNROLL for (int i = 0; i < kChunks; ++i) {
      if (!inside(i)) continue;
      float w[kPerChunk<E>];
      widen<E>(load(static_cast<const Chunk*>(weight) + chunk(i)), w);
      UNROLL for (int e = 0; e < kPerChunk<E>; ++e) sum += value_[i][e] * w[e];
    }
    return warp_sum(sum);
  }

  DEVICE void put(void* to) const {
    UNROLL for (int i = 0; i < kChunks; ++i)
      if (inside(i)) store(static_cast<Chunk*>(to) + chunk(i), narrow<E>(value_[i]));
  }

 private:
  static constexpr int kChunks = kWidth / (32 * kPerChunk<E>);

  static DEVICE int chunk(int i) { return i * 32 + thread_index() % 32; }
  DEVICE bool inside(int i) const { return chunk(i) * kPerChunk<E> < stride_; }

  int stride_;
  float value_[kChunks][kPerChunk<E>];
};

/// Where row `row` of a matrix with `stride` elements a row starts.
template <class E>
DEVICE const void* row_of(const void* matrix, int row, int stride) {
  return static_cast<const E*>(matrix) + static_cast<size_t>(row) * stride;
}
template <class E>
DEVICE void* row_of(void* matrix, int row, int stride) {
  return static_cast<E*>(matrix) + static_cast<size_t>(row) * stride;
}

}  // namespace matryoshka::cuda
