// AVX-512 (F, BW, VL, DQ), with BF16 and VNNI where the translation unit is compiled for them.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

struct Simd {
  static constexpr int width = 16;   // floats of a vector
  static constexpr int vectors = 4;  // vectors across a weight panel
  static constexpr int rows = 6;     // rows of the micro-kernel: 24 accumulators, 4 weights, a broadcast
  using F = __m512;
  using I = __m512i;

  static __mmask16 first(int n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << n) - 1); }

  static F zero() { return _mm512_setzero_ps(); }
  static F set(float x) { return _mm512_set1_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static F load(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static void store(float* p, F x, int n) { _mm512_mask_storeu_ps(p, first(n), x); }
  static F keep(F x, int n, F other) { return _mm512_mask_blend_ps(first(n), other, x); }  // lanes < n of x

  static F load_f16(const uint16_t* p, int n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p)); }
  static void store_f16(uint16_t* p, F x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, 0)); }
  static F load_bf16(const uint16_t* p, int n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), p)), 16));
  }
  static void store_bf16(uint16_t* p, F x, int n) { _mm256_mask_storeu_epi16(p, first(n), to_bf16(x)); }

  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F round(F a) { return _mm512_roundscale_ps(a, 8); }
  static F scale2(F a, F n) { return _mm512_scalef_ps(a, n); }  // a * 2^n, n whole
  static float sum(F a) { return _mm512_reduce_add_ps(a); }
  static float largest(F a) { return _mm512_reduce_max_ps(a); }

  static I zero_int() { return _mm512_setzero_si512(); }
  static I load_int(const void* p) { return _mm512_loadu_si512(p); }
  static void store_int(void* p, I x) { _mm512_storeu_si512(p, x); }
  static I broadcast(const void* p) { return _mm512_set1_epi32(*static_cast<const int32_t*>(p)); }

 private:
  static __m256i to_bf16(F x) {
#ifdef __AVX512BF16__
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
#else
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16));
#endif
  }
};

}  // namespace
