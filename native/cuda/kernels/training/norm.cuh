// Layer norm in training, a warp a row: forth with what the way back needs, and back. The residual stream and its gradient
// are f32; what products take is written in elements beside it.
#pragma once

#include "cuda/kernels/row.cuh"

namespace matryoshka::cuda {

struct NormForwardArgs {
  float* hidden;        ///< [rows, width] <- norm(hidden + branch)
  const float* branch;  ///< [rows, width], or null
  void* hat;            ///< [rows, width] of elements: before weight and bias
  float* inverse;       ///< [rows] 1 / deviation
  void* output;         ///< [rows, width] of elements: hidden; or null
  const float *weight, *bias;
  int rows, width;  ///< width a multiple of 8
  float eps;
};

struct NormBackwardArgs {
  float* gradient;  ///< [rows, width] of the norm's result, then of the sum under it
  void* branch;     ///< [rows, width] of elements: the same once more; or null
  const void* hat;
  const float *inverse, *weight;
  int rows, width;
};

/// Lane L has chunks L, L + 32, … of eight numbers.
template <int kWidth>
struct Wide {
  static constexpr int kChunks = kWidth / 256;
  static DEVICE int at(int i) { return (i * 32 + thread_index() % 32) * 8; }
};

DEVICE void load8(const float* from, float (&out)[8]) {
  UNROLL for (int half = 0; half < 2; ++half) {
    float v[4];
    widen<float>(load(reinterpret_cast<const Chunk*>(from) + half), v);
    UNROLL for (int e = 0; e < 4; ++e) out[half * 4 + e] = v[e];
  }
}
DEVICE void store8(float* to, const float (&x)[8]) {
  UNROLL for (int half = 0; half < 2; ++half) {
    const float v[4] = {x[half * 4], x[half * 4 + 1], x[half * 4 + 2], x[half * 4 + 3]};
    store(reinterpret_cast<Chunk*>(to) + half, narrow<float>(v));
  }
}
template <class E>
DEVICE void store8(void* to, size_t at, const float (&x)[8]) {
  store(reinterpret_cast<Chunk*>(static_cast<E*>(to) + at), narrow<E>(x));
}

template <class E, int kWidth>
KERNEL(kRowThreads, 1)
norm_forward(NormForwardArgs args) {
  using W = Wide<kWidth>;
  for (int r = first_row(); r < args.rows; r += row_step()) {
    const size_t row = static_cast<size_t>(r) * args.width;
    float x[W::kChunks][8], sum = 0, square = 0;
    UNROLL for (int i = 0; i < W::kChunks; ++i) {
      UNROLL for (int e = 0; e < 8; ++e) x[i][e] = 0;
      if (W::at(i) >= args.width) continue;
      load8(args.hidden + row + W::at(i), x[i]);
      if (args.branch) {
        float b[8];
        load8(args.branch + row + W::at(i), b);
        UNROLL for (int e = 0; e < 8; ++e) x[i][e] += b[e];
      }
      UNROLL for (int e = 0; e < 8; ++e) sum += x[i][e];
    }
    const float mean = warp_sum(sum) / args.width;
    UNROLL for (int i = 0; i < W::kChunks; ++i)
      UNROLL for (int e = 0; e < 8; ++e) {
        const float d = W::at(i) < args.width ? x[i][e] - mean : 0;
        square += d * d;
      }
    const float inverse = 1 / sqrtf(warp_sum(square) / args.width + args.eps);
    if (thread_index() % 32 == 0) store(args.inverse + r, inverse);
    UNROLL for (int i = 0; i < W::kChunks; ++i) {
      if (W::at(i) >= args.width) continue;
      float w[8], b[8];
      load8(args.weight + W::at(i), w);
      load8(args.bias + W::at(i), b);
      UNROLL for (int e = 0; e < 8; ++e) x[i][e] = (x[i][e] - mean) * inverse;
      store8<E>(args.hat, row + W::at(i), x[i]);
      UNROLL for (int e = 0; e < 8; ++e) x[i][e] = x[i][e] * w[e] + b[e];
      store8(args.hidden + row + W::at(i), x[i]);
      if (args.output) store8<E>(args.output, row + W::at(i), x[i]);
    }
  }
}

/// dx = (g - mean(g) - hat mean(g hat)) / deviation with g = dy weight.
template <class E, int kWidth>
KERNEL(kRowThreads, 1)
norm_backward(NormBackwardArgs args) {
  using W = Wide<kWidth>;
  for (int r = first_row(); r < args.rows; r += row_step()) {
    const size_t row = static_cast<size_t>(r) * args.width;
    float g[W::kChunks][8], hat[W::kChunks][8], sum = 0, along = 0;
    UNROLL for (int i = 0; i < W::kChunks; ++i) {
      if (W::at(i) >= args.width) continue;
      float w[8];
      load8(args.gradient + row + W::at(i), g[i]);
      load8(args.weight + W::at(i), w);
      widen<E>(load(reinterpret_cast<const Chunk*>(static_cast<const E*>(args.hat) + row + W::at(i))), hat[i]);
      UNROLL for (int e = 0; e < 8; ++e) {
        g[i][e] *= w[e];
        sum += g[i][e];
        along += g[i][e] * hat[i][e];
      }
    }
    const float mean = warp_sum(sum) / args.width, slope = warp_sum(along) / args.width, inverse = load(args.inverse + r);
    UNROLL for (int i = 0; i < W::kChunks; ++i) {
      if (W::at(i) >= args.width) continue;
      UNROLL for (int e = 0; e < 8; ++e) g[i][e] = (g[i][e] - mean - hat[i][e] * slope) * inverse;
      store8(args.gradient + row + W::at(i), g[i]);
      if (args.branch) store8<E>(args.branch, row + W::at(i), g[i]);
    }
  }
}

}  // namespace matryoshka::cuda
