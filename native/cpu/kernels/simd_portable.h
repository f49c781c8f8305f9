// Plain C++ over short arrays, for machines nothing else is written for; a compiler may vectorize it.
#pragma once

#include <cmath>
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

  template <class Op>
  static F map(Op op) {
    F r;
    for (int i = 0; i < width; ++i) r.v[i] = op(i);
    return r;
  }
  static F zero() { return set(0); }
  static F set(float x) { return map([&](int) { return x; }); }
  static F load(const float* p) { return map([&](int i) { return p[i]; }); }
  static F load(const float* p, int n) { return map([&](int i) { return i < n ? p[i] : 0.f; }); }
  static void store(float* p, F x) { std::memcpy(p, x.v, sizeof x.v); }
  static void store(float* p, F x, int n) {
    for (int i = 0; i < width && i < n; ++i) p[i] = x.v[i];
  }
  static F keep(F x, int n, F other) { return map([&](int i) { return i < n ? x.v[i] : other.v[i]; }); }

  static F load_f16(const uint16_t* p, int n) { return map([&](int i) { return i < n ? from_f16(p[i]) : 0.f; }); }
  static void store_f16(uint16_t* p, F x) {
    for (int i = 0; i < width; ++i) p[i] = to_f16(x.v[i]);
  }
  static F load_bf16(const uint16_t* p, int n) {
    return map([&](int i) { return i < n ? from_bits(static_cast<uint32_t>(p[i]) << 16) : 0.f; });
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

  static I zero_int() { return {}; }
  static I load_int(const void* p) {
    I r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
  static I broadcast(const void* p) {
    int32_t x;
    std::memcpy(&x, p, 4);
    I r;
    for (int i = 0; i < width; ++i) r.v[i] = x;
    return r;
  }

 private:
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
