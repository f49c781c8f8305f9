// AVX2 with FMA and F16C, with AVX-VNNI where the translation unit is compiled for it.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace {

struct Simd {
  static constexpr int width = 8;
  static constexpr int vectors = 2;
  static constexpr int rows = 6;  // 12 accumulators, 2 weights, a broadcast
  using F = __m256;
  using I = __m256i;
  typedef int Sum __attribute__((vector_size(32)));  // accumulators of dot_integers; g++ 12 keeps arrays of __m256i in memory

  static I first(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }

  static F zero() { return _mm256_setzero_ps(); }
  static F set(float x) { return _mm256_set1_ps(x); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static F load(const float* p, int n) { return n >= 8 ? load(p) : _mm256_maskload_ps(p, first(n)); }
  static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static void store(float* p, F x, int n) { n >= 8 ? store(p, x) : _mm256_maskstore_ps(p, first(n), x); }
  static F keep(F x, int n, F other) { return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(first(n))); }

  static F load_f16(const uint16_t* p, int n) { return _mm256_cvtph_ps(load_halves(p, n)); }
  static void store_f16(uint16_t* p, F x) { store_halves(p, _mm256_cvtps_ph(x, 0), 8); }
  static F load_bf16(const uint16_t* p, int n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_halves(p, n)), 16));
  }
  static void store_bf16(uint16_t* p, F x, int n) {
    const I bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const I rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    store_halves(p, _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)), n);
  }

  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F magnitude(F a) { return _mm256_andnot_ps(set(-0.f), a); }
  static F round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F scale2(F a, F n) {
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23)));
  }
  static float sum(F a) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)), pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
  }
  static float largest(F a) {
    const __m128 half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)), pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
  }

  static I zero_int() { return _mm256_setzero_si256(); }
  static I set_int(int32_t x) { return _mm256_set1_epi32(x); }
  static I load_int(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static I load_bytes(const void* p, int bytes) {
    if (bytes >= 32) return load_int(p);
    alignas(32) char all[32] = {};
    __builtin_memcpy(all, p, static_cast<size_t>(bytes));
    return load_int(all);
  }
  static void store_int(void* p, I x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
  static I from_sum(Sum x) { return (I)x; }
  static F to_float(I x) { return _mm256_cvtepi32_ps(x); }
  static I sub_int(I a, I b) { return _mm256_sub_epi32(a, b); }
  static I mul_int(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static void store_u8(void* p, F x, int n) {
    const __m128i words = narrow(x);
    store_bytes(p, _mm_packus_epi16(words, words), n);
  }
  static void store_s8(void* p, F x, int n) {
    const __m128i words = narrow(x);
    store_bytes(p, _mm_packs_epi16(words, words), n);
  }
  static I pair(const uint16_t* low, const uint16_t* high, int n) {
    const I a = _mm256_cvtepu16_epi32(load_halves(low, n)), b = high ? _mm256_cvtepu16_epi32(load_halves(high, n)) : zero_int();
    return _mm256_or_si256(a, _mm256_slli_epi32(b, 16));
  }

  static constexpr bool has_bf16 = false;
  static constexpr int dot_bias = 0;
#ifdef __AVXVNNI__
  static constexpr bool has_u8_dot = true;
  static Sum dot_integers(Sum acc, I a, I b) { return (Sum)_mm256_dpbusd_avx_epi32((I)acc, a, b); }
#else  // vpmaddubsw would saturate
  static constexpr bool has_u8_dot = false;
  static void store_u16(void* p, F x, int n) {
    const __m128i words = _mm_min_epi16(_mm_max_epi16(narrow(x), _mm_setzero_si128()), _mm_set1_epi16(255));
    store_halves(static_cast<uint16_t*>(p), words, n);
  }
  static Sum dot_integers(Sum acc, I a, I b) { return acc + (Sum)_mm256_madd_epi16(a, b); }
#endif

  static void transpose(I (&x)[8]) {
    I t[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
      t[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {  // x[i + j]: column j of each 4 × 4
      x[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
      x[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
      x[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
      x[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int j = 0; j < 4; ++j) {
      t[j] = _mm256_permute2x128_si256(x[j], x[4 + j], 0x20);
      t[4 + j] = _mm256_permute2x128_si256(x[j], x[4 + j], 0x31);
    }
    for (int i = 0; i < 8; ++i) x[i] = t[i];
  }

 private:
  static __m128i load_halves(const uint16_t* p, int n) {
    if (n >= 8) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    alignas(16) uint16_t all[8] = {};
    __builtin_memcpy(all, p, static_cast<size_t>(n) * 2);
    return _mm_load_si128(reinterpret_cast<const __m128i*>(all));
  }
  static void store_halves(uint16_t* p, __m128i x, int n) {
    if (n >= 8) return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x);
    alignas(16) uint16_t all[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(all), x);
    __builtin_memcpy(p, all, static_cast<size_t>(n) * 2);
  }
  static void store_bytes(void* p, __m128i x, int n) {
    if (n >= 8) return _mm_storel_epi64(static_cast<__m128i*>(p), x);
    alignas(16) char all[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(all), x);
    __builtin_memcpy(p, all, static_cast<size_t>(n));
  }
  static __m128i narrow(F x) {
    const I whole = _mm256_cvtps_epi32(x);
    return _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  }
};

}  // namespace
