// The two 16-bit formats in plain integer arithmetic: widening is exact, narrowing rounds to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

namespace matryoshka::simt {

inline uint32_t bits_of(float x) {
  uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  return u;
}
inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline float bf16_to_float(uint16_t h) { return float_of(uint32_t{h} << 16); }
inline uint16_t float_to_bf16(float x) {
  const uint32_t u = bits_of(x);
  if (x != x) return 0x7fff;
  return static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/// Exponent and mantissa move to float's places; 2^112 is the difference of the biases, and handles subnormals too.
inline float f16_to_float(uint16_t h) {
  const uint32_t sign = uint32_t{h & 0x8000u} << 16, rest = uint32_t{h & 0x7fffu} << 13;
  if ((h & 0x7c00) == 0x7c00) return float_of(sign | 0x7f800000u | rest);
  return float_of(sign | bits_of(float_of(rest) * 0x1p112f));
}
inline uint16_t float_to_f16(float x) {
  const uint16_t sign = static_cast<uint16_t>(bits_of(x) >> 16 & 0x8000);
  const uint32_t u = bits_of(x) & 0x7fffffffu;
  if (u > 0x7f800000u) return 0x7fff;
  if (u >= 0x477ff000u) return sign | 0x7c00;  // 65520 and above round to infinity
  if (u < 0x38800000u)                         // subnormal: adding 1/2 leaves the rounded mantissa in the low bits
    return sign | static_cast<uint16_t>(bits_of(float_of(u) + 0.5f) - 0x3f000000u);
  return sign | static_cast<uint16_t>((u - 0x38000000u + 0xfff + (u >> 13 & 1)) >> 13);
}

}  // namespace matryoshka::simt
