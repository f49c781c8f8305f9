// Arithmetic with a promise: single operations that are never fused, and fast approximations of known error.
#pragma once

#include <cmath>

#include "cuda/instructions/thread.cuh"

#if defined(__CUDACC__)

namespace matryoshka::cuda {

/// One correctly rounded operation each: what must agree bit for bit with the CPU uses nothing else.
DEVICE float mul_exact(float a, float b) { return __fmul_rn(a, b); }
DEVICE float add_exact(float a, float b) { return __fadd_rn(a, b); }
DEVICE double mul_exact(double a, double b) { return __dmul_rn(a, b); }
DEVICE double add_exact(double a, double b) { return __dadd_rn(a, b); }
DEVICE double div_exact(double a, double b) { return __ddiv_rn(a, b); }

DEVICE float exp2_fast(float x) {  ///< 2^-22 relative
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float rcp_fast(float x) {  ///< 1 ulp
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float tanh_fast(float x) {  ///< 2^-11 relative
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace matryoshka::cuda

#else

#include "simt/math.h"

namespace matryoshka::cuda {

// The build forbids contraction (-ffp-contract=off), so plain operators are single operations.
inline float mul_exact(float a, float b) { return a * b; }
inline float add_exact(float a, float b) { return a + b; }
inline double mul_exact(double a, double b) { return a * b; }
inline double add_exact(double a, double b) { return a + b; }
inline double div_exact(double a, double b) { return a / b; }

using simt::exp2_fast;
using simt::rcp_fast;
using simt::tanh_fast;

}  // namespace matryoshka::cuda

#endif
