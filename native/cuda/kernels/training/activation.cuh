// An MLP's activation in training: forth beside its input, which the way back needs, and back.
#pragma once

#include "cuda/kernels/activation.cuh"
#include "cuda/kernels/row.cuh"

namespace matryoshka::cuda {

struct ActivateArgs {
  const void* input;  ///< elements
  void* output;       ///< forth: f(input); back: a gradient, multiplied by f'(input)
  int chunks;         ///< of eight elements
};

/// f'(x)
template <Activation kActivation>
DEVICE float slope(float x) {
  if constexpr (kActivation == Activation::gelu) {
    const float density = 0.3989422804f * exp2_fast(-0.7213475204f * x * x);  // of the normal distribution
    return 0.5f * (1 + erff(0.7071067812f * x)) + x * density;
  } else if constexpr (kActivation == Activation::gelu_tanh) {
    const float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.7978845608f * (1 + 3 * 0.044715f * x * x);
  } else {
    return x > 0 ? 1 : 0;
  }
}

template <class E, Activation kActivation, bool kBack>
KERNEL(kRowThreads, 2)
activate_all(ActivateArgs args) {
  Chunk* const output = static_cast<Chunk*>(args.output);
  for (int i = block_index() * kRowThreads + thread_index(); i < args.chunks; i += block_count() * kRowThreads) {
    float x[8], y[8] = {};
    widen<E>(load(static_cast<const Chunk*>(args.input) + i), x);
    if constexpr (kBack) widen<E>(load(output + i), y);
    UNROLL for (int e = 0; e < 8; ++e) y[e] = kBack ? y[e] * slope<kActivation>(x[e]) : activate<kActivation, true>(x[e]);
    store(output + i, narrow<E>(y));
  }
}

}  // namespace matryoshka::cuda
