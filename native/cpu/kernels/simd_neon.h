// 64-bit Arm, with the dot product of bytes, int8 and bf16 matrix extensions where the translation unit is compiled for them.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace {

struct Simd {
  static constexpr int width = 4;
  static constexpr int vectors = 4;
  static constexpr int rows = 6;  // 24 accumulators, 4 weights, a broadcast
  using F = float32x4_t;
  using I = int32x4_t;
  using Sum = int32x4_t;

  static F zero() { return vdupq_n_f32(0); }
  static F set(float x) { return vdupq_n_f32(x); }
  static F load(const float* p) { return vld1q_f32(p); }
  static F load(const float* p, int n) { return n >= 4 ? load(p) : vreinterpretq_f32_s32(load_bytes(p, n * 4)); }
  static void store(float* p, F x) { vst1q_f32(p, x); }
  static void store(float* p, F x, int n) {
    if (n >= 4) return store(p, x);
    float all[4];
    vst1q_f32(all, x);
    __builtin_memcpy(p, all, static_cast<size_t>(n) * 4);
  }
  static F keep(F x, int n, F other) {
    static constexpr int32_t lanes[] = {0, 1, 2, 3};
    return vbslq_f32(vcgtq_s32(vdupq_n_s32(n), vld1q_s32(lanes)), x, other);
  }

  static F load_f16(const uint16_t* p, int n) { return vcvt_f32_f16(vreinterpret_f16_u16(load_halves(p, n))); }
  static void store_f16(uint16_t* p, F x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x))); }
  static F load_bf16(const uint16_t* p, int n) { return vreinterpretq_f32_u32(vshll_n_u16(load_halves(p, n), 16)); }
  static void store_bf16(uint16_t* p, F x, int n) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint16x4_t rounded = vshrn_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
    if (n >= 4) return vst1_u16(p, rounded);
    uint16_t all[4];
    vst1_u16(all, rounded);
    __builtin_memcpy(p, all, static_cast<size_t>(n) * 2);
  }

  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F sub(F a, F b) { return vsubq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F div(F a, F b) { return vdivq_f32(a, b); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F max(F a, F b) { return vmaxq_f32(a, b); }
  static F min(F a, F b) { return vminq_f32(a, b); }
  static F magnitude(F a) { return vabsq_f32(a); }
  static F round(F a) { return vrndnq_f32(a); }
  static F scale2(F a, F n) {
    return vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23)));
  }
  static float sum(F a) { return vaddvq_f32(a); }
  static float largest(F a) { return vmaxvq_f32(a); }

  static I zero_int() { return vdupq_n_s32(0); }
  static I set_int(int32_t x) { return vdupq_n_s32(x); }
  static I load_int(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p))); }
  static I load_bytes(const void* p, int bytes) {
    if (bytes >= 16) return load_int(p);
    alignas(16) char all[16] = {};
    __builtin_memcpy(all, p, static_cast<size_t>(bytes));
    return load_int(all);
  }
  static void store_int(void* p, I x) { vst1q_u8(static_cast<uint8_t*>(p), vreinterpretq_u8_s32(x)); }
  static I from_sum(Sum x) { return x; }
  static F to_float(I x) { return vcvtq_f32_s32(x); }
  static I sub_int(I a, I b) { return vsubq_s32(a, b); }
  static I mul_int(I a, I b) { return vmulq_s32(a, b); }
  static void store_u8(void* p, F x, int n) {
    const uint16x4_t words = vqmovun_s32(vcvtnq_s32_f32(x));
    store_bytes(p, vqmovn_u16(vcombine_u16(words, words)), n);
  }
  static void store_s8(void* p, F x, int n) {
    const int16x4_t words = vqmovn_s32(vcvtnq_s32_f32(x));
    store_bytes(p, vreinterpret_u8_s8(vqmovn_s16(vcombine_s16(words, words))), n);
  }
  static I pair(const uint16_t* low, const uint16_t* high, int n) {
    const uint32x4_t a = vmovl_u16(load_halves(low, n)), b = high ? vshll_n_u16(load_halves(high, n), 16) : vdupq_n_u32(0);
    return vreinterpretq_s32_u32(vorrq_u32(a, b));
  }

#ifdef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
  static constexpr bool has_bf16 = true;
  static F dot_bf16(F acc, I a, I b) { return vbfdotq_f32(acc, vreinterpretq_bf16_s32(a), vreinterpretq_bf16_s32(b)); }
#else
  static constexpr bool has_bf16 = false;
#endif

  static constexpr bool has_u8_dot = true;
#if defined(__ARM_FEATURE_MATMUL_INT8)
  static constexpr int dot_bias = 0;
  static Sum dot_integers(Sum acc, I a, I b) { return vusdotq_s32(acc, vreinterpretq_u8_s32(a), vreinterpretq_s8_s32(b)); }
#elif defined(__ARM_FEATURE_DOTPROD)
  static constexpr int dot_bias = 128;  // the instruction wants both signed
  static Sum dot_integers(Sum acc, I a, I b) {
    return vdotq_s32(acc, vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_s32(a), vdupq_n_u8(0x80))), vreinterpretq_s8_s32(b));
  }
#else
  static constexpr int dot_bias = 0;
  static Sum dot_integers(Sum acc, I a, I b) {
    const uint8x16_t u = vreinterpretq_u8_s32(a);
    const int8x16_t s = vreinterpretq_s8_s32(b);
    const auto products = [](uint8x8_t x, int8x8_t y) {  // of 8 bytes, summed by fours
      const int16x8_t wide = vreinterpretq_s16_u16(vmovl_u8(x)), other = vmovl_s8(y);
      return vpaddq_s32(vmull_s16(vget_low_s16(wide), vget_low_s16(other)), vmull_high_s16(wide, other));
    };
    return vaddq_s32(acc, vpaddq_s32(products(vget_low_u8(u), vget_low_s8(s)), products(vget_high_u8(u), vget_high_s8(s))));
  }
#endif

  static void transpose(I (&x)[4]) {
    const int32x4x2_t a = vtrnq_s32(x[0], x[1]), b = vtrnq_s32(x[2], x[3]);
    x[0] = vcombine_s32(vget_low_s32(a.val[0]), vget_low_s32(b.val[0]));
    x[1] = vcombine_s32(vget_low_s32(a.val[1]), vget_low_s32(b.val[1]));
    x[2] = vcombine_s32(vget_high_s32(a.val[0]), vget_high_s32(b.val[0]));
    x[3] = vcombine_s32(vget_high_s32(a.val[1]), vget_high_s32(b.val[1]));
  }

 private:
  static uint16x4_t load_halves(const uint16_t* p, int n) {
    if (n >= 4) return vld1_u16(p);
    uint16_t all[4] = {};
    __builtin_memcpy(all, p, static_cast<size_t>(n) * 2);
    return vld1_u16(all);
  }
  static void store_bytes(void* p, uint8x8_t x, int n) {
    uint8_t all[8];
    vst1_u8(all, x);
    __builtin_memcpy(p, all, static_cast<size_t>(n < 4 ? n : 4));
  }
};

}  // namespace
