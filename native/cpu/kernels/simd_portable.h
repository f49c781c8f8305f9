// Plain C++ over short arrays, for machines nothing else is written for; a compiler may vectorize it.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

struct Simd {
  static constexpr int width = 4;
  static constexpr int vectors = 2;
  static constexpr int rows = 4;
  struct F {
    float v[width];
  };
  struct I {
    int32_t v[width];
  };
  using Sum = I;

  template <class Op>
  static F map(Op op) {
    F r;
    for (int i = 0; i < width; ++i) r.v[i] = op(i);
    return r;
  }
  static F zero() { return set(0); }
  static F set(float x) { return map([&](int) { return x; }); }
  /// p[i], wherever p lies: rows of a mapped checkpoint need not be aligned.
  template <class T>
  static T at(const T* p, int i) {
    T x;
    std::memcpy(&x, reinterpret_cast<const std::byte*>(p) + i * sizeof x, sizeof x);
    return x;
  }
  static F load(const float* p) { return map([&](int i) { return at(p, i); }); }
  static F load(const float* p, int n) { return map([&](int i) { return i < n ? at(p, i) : 0.f; }); }
  static void store(float* p, F x) { std::memcpy(p, x.v, sizeof x.v); }
  static void store(float* p, F x, int n) {
    for (int i = 0; i < width && i < n; ++i) p[i] = x.v[i];
  }
  static F keep(F x, int n, F other) { return map([&](int i) { return i < n ? x.v[i] : other.v[i]; }); }

  static F load_f16(const uint16_t* p, int n) { return map([&](int i) { return i < n ? from_f16(at(p, i)) : 0.f; }); }
  static void store_f16(uint16_t* p, F x) {
    for (int i = 0; i < width; ++i) p[i] = to_f16(x.v[i]);
  }
  static F load_bf16(const uint16_t* p, int n) {
    return map([&](int i) { return i < n ? from_bits(static_cast<uint32_t>(at(p, i)) << 16) : 0.f; });
  }
  static void store_bf16(uint16_t* p, F x, int n) {
    for (int i = 0; i < width && i < n; ++i) {
      const uint32_t bits = to_bits(x.v[i]);
      p[i] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
  }

  static F add(F a, F b) { return map([&](int i) { return a.v[i] + b.v[i]; }); }
  static F sub(F a, F b) { return map([&](int i) { return a.v[i] - b.v[i]; }); }
  static F mul(F a, F b) { return map([&](int i) { return a.v[i] * b.v[i]; }); }
  static F div(F a, F b) { return map([&](int i) { return a.v[i] / b.v[i]; }); }
  static F fma(F a, F b, F c) { return map([&](int i) { return a.v[i] * b.v[i] + c.v[i]; }); }
  static F max(F a, F b) { return map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
  static F min(F a, F b) { return map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
  static F magnitude(F a) { return map([&](int i) { return a.v[i] < 0 ? -a.v[i] : a.v[i]; }); }
  static F round(F a) {  // to nearest even; exact for |a| < 2^22, which is all the kernels need
    return map([&](int i) { return (a.v[i] + 12582912.f) - 12582912.f; });
  }
  static F scale2(F a, F n) {
    return map([&](int i) { return a.v[i] * from_bits(static_cast<uint32_t>(static_cast<int32_t>(n.v[i]) + 127) << 23); });
  }
  static float sum(F a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
  static float largest(F a) {
    float m = a.v[0];
    for (int i = 1; i < width; ++i) m = a.v[i] > m ? a.v[i] : m;
    return m;
  }

  template <class Op>
  static I map_int(Op op) {
    I r;
    for (int i = 0; i < width; ++i) r.v[i] = op(i);
    return r;
  }
  static I zero_int() { return set_int(0); }
  static I set_int(int32_t x) { return map_int([&](int) { return x; }); }
  static I load_int(const void* p) { return load_bytes(p, 4 * width); }
  static I load_bytes(const void* p, int bytes) {
    I r = zero_int();
    std::memcpy(r.v, p, bytes < 4 * width ? bytes : 4 * width);
    return r;
  }
  static void store_int(void* p, I x) { std::memcpy(p, x.v, sizeof x.v); }
  static I from_sum(Sum x) { return x; }
  static F to_float(I x) { return map([&](int i) { return static_cast<float>(x.v[i]); }); }
  static I sub_int(I a, I b) { return map_int([&](int i) { return a.v[i] - b.v[i]; }); }
  static I mul_int(I a, I b) { return map_int([&](int i) { return a.v[i] * b.v[i]; }); }
  /// Rounded to nearest even and saturated to [0, 255] or [-128, 127].
  static void store_u8(void* p, F x, int n) { store_byte(p, min(max(x, zero()), set(255)), n); }
  static void store_s8(void* p, F x, int n) { store_byte(p, min(max(x, set(-128)), set(127)), n); }

  /// Lane i: bf16 low[i] below bf16 high[i].
  static I pair(const uint16_t* low, const uint16_t* high, int n) {
    return map_int([&](int i) { return i < n ? static_cast<int32_t>(low[i] | static_cast<uint32_t>(high ? high[i] : 0) << 16) : 0; });
  }

  static constexpr bool has_bf16 = false;
  static constexpr bool has_u8_dot = true;
  static constexpr int dot_bias = 0;
  /// acc + Σ over four bytes of (u8 a - dot_bias) times s8 b, exactly.
  static Sum dot_integers(Sum acc, I a, I b) {
    for (int i = 0; i < width; ++i) {
      uint8_t u[4];
      int8_t s[4];
      std::memcpy(u, &a.v[i], 4);
      std::memcpy(s, &b.v[i], 4);
      for (int j = 0; j < 4; ++j) acc.v[i] += u[j] * s[j];
    }
    return acc;
  }

  /// Transposes a width × width block of dwords in place.
  static void transpose(I (&x)[width]) {
    for (int i = 0; i < width; ++i)
      for (int j = 0; j < i; ++j) {
        const int32_t t = x[i].v[j];
        x[i].v[j] = x[j].v[i];
        x[j].v[i] = t;
      }
  }

 private:
  static void store_byte(void* p, F x, int n) {
    for (int i = 0; i < width && i < n; ++i) static_cast<int8_t*>(p)[i] = static_cast<int8_t>(static_cast<int32_t>(round(x).v[i]));
  }
  static uint32_t to_bits(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
  }
  static float from_bits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
  }
  static float from_f16(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude >= 0x7c00) return from_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    if (magnitude < 0x400) return from_bits(sign | to_bits(static_cast<float>(magnitude) * 0x1p-24f));
    return from_bits(sign | ((magnitude << 13) + (112u << 23)));
  }
  /// Only of values that came from f16, so nothing is rounded.
  static uint16_t to_f16(float x) {
    const uint32_t bits = to_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude < 113u << 23) return static_cast<uint16_t>(sign | static_cast<uint32_t>(from_bits(magnitude) * 0x1p24f));
    return static_cast<uint16_t>(sign | (magnitude - (112u << 23)) >> 13);
  }
};

}  // namespace
