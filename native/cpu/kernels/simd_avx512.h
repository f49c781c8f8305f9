// AVX-512 (F, BW, VL, DQ), with BF16 and VNNI where the translation unit is compiled for them.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

struct Simd {
  static constexpr int width = 16;   // floats of a vector
#ifdef __AMX_TILE__
  static constexpr int vectors = 2;  // vectors across a weight panel: two tiles, whose rows lie side by side in memory
  static constexpr int rows = 12;    // rows of the micro-kernel: 24 accumulators, 2 weights, a broadcast
#else
  static constexpr int vectors = 4;
  static constexpr int rows = 6;  // 24 accumulators, 4 weights, a broadcast
#endif
  using F = __m512;
  using I = __m512i;
  typedef int Sum __attribute__((vector_size(64)));  // accumulators of dot_integers; g++ 12 keeps arrays of __m512i in memory

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
  static F magnitude(F a) { return _mm512_abs_ps(a); }
  static F round(F a) { return _mm512_roundscale_ps(a, 8); }
  static F scale2(F a, F n) { return _mm512_scalef_ps(a, n); }  // a * 2^n, n whole
  static float sum(F a) { return _mm512_reduce_add_ps(a); }
  static float largest(F a) { return _mm512_reduce_max_ps(a); }

  static I zero_int() { return _mm512_setzero_si512(); }
  static I set_int(int32_t x) { return _mm512_set1_epi32(x); }
  static I load_int(const void* p) { return _mm512_loadu_si512(p); }
  static I load_bytes(const void* p, int bytes) { return _mm512_maskz_loadu_epi8(bytes >= 64 ? ~0ull : (1ull << bytes) - 1, p); }
  static void store_int(void* p, I x) { _mm512_storeu_si512(p, x); }
  static I from_sum(Sum x) { return (I)x; }
  static F to_float(I x) { return _mm512_cvtepi32_ps(x); }
  static I sub_int(I a, I b) { return _mm512_sub_epi32(a, b); }
  static I mul_int(I a, I b) { return _mm512_mullo_epi32(a, b); }
  /// Rounded to nearest even and saturated to [0, 255] or [-128, 127].
  static void store_u8(void* p, F x, int n) {
    _mm_mask_storeu_epi8(p, first(n), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(_mm512_max_ps(x, _mm512_setzero_ps()))));
  }
  static void store_s8(void* p, F x, int n) { _mm_mask_storeu_epi8(p, first(n), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x))); }
  /// Lane i: bf16 low[i] below bf16 high[i].
  static I pair(const uint16_t* low, const uint16_t* high, int n) {
    const __m512i a = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), low));
    const __m512i b = high ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), high)) : zero_int();
    return _mm512_or_si512(a, _mm512_slli_epi32(b, 16));
  }

#ifdef __AVX512BF16__
  static constexpr bool has_bf16 = true;
  /// acc + a.low * b.low + a.high * b.high
  static F dot_bf16(F acc, I a, I b) { return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)); }
#else
  static constexpr bool has_bf16 = false;
#endif
  static constexpr int dot_bias = 0;
#ifdef __AVX512VNNI__
  static constexpr bool has_u8_dot = true;
  /// acc + Σ over four bytes of (u8 a - dot_bias) times s8 b, exactly.
  static Sum dot_integers(Sum acc, I a, I b) { return (Sum)_mm512_dpbusd_epi32((I)acc, a, b); }
#else
  static constexpr bool has_u8_dot = false;
  static void store_u16(void* p, F x, int n) {
    const __m512 fits = _mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), _mm512_set1_ps(255));
    _mm256_mask_storeu_epi16(p, first(n), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(fits)));
  }
  /// acc + Σ over two 16-bit numbers of a times b; exact where a is a u8 and b an s8.
  static Sum dot_integers(Sum acc, I a, I b) { return acc + (Sum)_mm512_madd_epi16(a, b); }
#endif

  /// Transposes a width × width block of dwords in place.
  static void transpose(I (&x)[16]) {
    I t[16];
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
      t[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {  // x[i + j]: column j of each 4 × 4
      x[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
      x[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
      x[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
      x[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int j = 0; j < 4; ++j) {
      const I a = _mm512_shuffle_i32x4(x[j], x[4 + j], 0x88), b = _mm512_shuffle_i32x4(x[j], x[4 + j], 0xdd);
      const I c = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0x88), d = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0xdd);
      t[j] = _mm512_shuffle_i32x4(a, c, 0x88);
      t[8 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
      t[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
      t[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    for (int i = 0; i < 16; ++i) x[i] = t[i];
  }

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
