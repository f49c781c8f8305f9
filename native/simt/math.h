// The approximate instructions: exact here, or wrong by as much as the PTX manual allows, to show that nothing leans on
// more than that.
#pragma once

#include <cmath>

#include "simt/emulator.h"
#include "simt/halves.h"

namespace matryoshka::simt {

/// x · (1 ± relative), the sign and size fixed by x's bits, so that equal inputs stay equal.
inline float perturbed(float x, float relative) {
  if (__builtin_expect(!options.noise, 1)) return x;
  const uint32_t hash = bits_of(x) * 2654435761u >> 8;
  return x + x * relative * (static_cast<float>(hash) * 0x1p-23f - 1);
}

inline float exp2_fast(float x) { return perturbed(exp2f(x), 0x1p-22f); }
inline float rcp_fast(float x) { return perturbed(1 / x, 0x1p-23f); }
inline float tanh_fast(float x) { return perturbed(tanhf(x), 0x1p-11f); }

}  // namespace matryoshka::simt
