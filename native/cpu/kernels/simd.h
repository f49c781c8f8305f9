// Picks the vector type the translation unit is compiled for. Kernels are written once over `Simd` and live in
// unnamed namespaces, so that no function compiled for one instruction set can be linked into another's code.
#pragma once

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "cpu/kernels/simd_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "cpu/kernels/simd_avx2.h"
#elif defined(MATRYOSHKA_NEON)
#include "cpu/kernels/simd_neon.h"
#else
#include "cpu/kernels/simd_portable.h"
#endif
