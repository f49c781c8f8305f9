// What happens to a sum after its bias. Single precision gets the exact functions, 16-bit outputs approximations whose
// error lies far below their rounding.
#pragma once

#include "cuda/instructions/math.cuh"

namespace matryoshka::cuda {

enum class Activation : uint8_t { none, gelu, gelu_tanh, relu, tanh, silu };

/// 1 - (a1 t + … + a5 t^5) exp(-x²), t = 1 / (1 + p x): Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
DEVICE float erf_fast(float x) {
  const float magnitude = fabsf(x), t = rcp_fast(1 + 0.3275911f * magnitude);
  const float poly = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  return copysignf(1 - poly * exp2_fast(-1.442695041f * x * x), x);
}

template <Activation kActivation, bool kExact>
DEVICE float activate(float x) {
  if constexpr (kActivation == Activation::gelu) {
    const float z = 0.7071067812f * x;
    return 0.5f * x * (1 + (kExact ? erff(z) : erf_fast(z)));
  } else if constexpr (kActivation == Activation::gelu_tanh) {
    const float z = 0.7978845608f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1 + (kExact ? tanhf(z) : tanh_fast(z)));
  } else if constexpr (kActivation == Activation::relu) {
    return x > 0 ? x : 0;
  } else if constexpr (kActivation == Activation::tanh) {
    return tanhf(x);
  } else if constexpr (kActivation == Activation::silu) {
    return x / (1 + expf(-x));  // exact in 16 bits too: approximated, it takes ten registers more
  } else {
    return x;
  }
}

}  // namespace matryoshka::cuda
