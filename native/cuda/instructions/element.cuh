// The types activations and weights are stored in. Arithmetic is in single precision everywhere.
#pragma once

#include "cuda/instructions/memory.cuh"

#if !defined(__CUDACC__)
#include "simt/halves.h"
#endif

namespace matryoshka::cuda {

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

template <class E>
constexpr int kPerChunk = 16 / static_cast<int>(sizeof(E));

#if defined(__CUDACC__)

DEVICE float float_of_bits(uint32_t bits) { return __uint_as_float(bits); }
DEVICE uint32_t bits_of_float(float x) { return __float_as_uint(x); }

/// Two elements in one register, `low` in the lower half.
template <class E>
DEVICE uint32_t pack(float low, float high);
template <>
DEVICE uint32_t pack<Bf16>(float low, float high) {
  uint32_t r = 0;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
#endif
  return r;
}
template <>
DEVICE uint32_t pack<F16>(float low, float high) {
  uint32_t r;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
#else
  asm("{.reg .f16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h};}" : "=r"(r) : "f"(low), "f"(high));
#endif
  return r;
}
template <class E>
DEVICE FloatPair unpack(uint32_t v);
template <>
DEVICE FloatPair unpack<Bf16>(uint32_t v) {
  return {float_of_bits(v << 16), float_of_bits(v & 0xffff0000u)};
}
template <>
DEVICE FloatPair unpack<F16>(uint32_t v) {
  FloatPair r;
  asm("{.reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(r.low), "=f"(r.high) : "r"(v));
  return r;
}

#else

inline float float_of_bits(uint32_t bits) { return simt::float_of(bits); }
inline uint32_t bits_of_float(float x) { return simt::bits_of(x); }

template <class E>
uint32_t pack(float low, float high);
template <>
inline uint32_t pack<Bf16>(float low, float high) {
  return simt::float_to_bf16(low) | static_cast<uint32_t>(simt::float_to_bf16(high)) << 16;
}
template <>
inline uint32_t pack<F16>(float low, float high) {
  return simt::float_to_f16(low) | static_cast<uint32_t>(simt::float_to_f16(high)) << 16;
}
template <class E>
FloatPair unpack(uint32_t v);
template <>
inline FloatPair unpack<Bf16>(uint32_t v) {
  return {simt::bf16_to_float(static_cast<uint16_t>(v)), simt::bf16_to_float(static_cast<uint16_t>(v >> 16))};
}
template <>
inline FloatPair unpack<F16>(uint32_t v) {
  return {simt::f16_to_float(static_cast<uint16_t>(v)), simt::f16_to_float(static_cast<uint16_t>(v >> 16))};
}

#endif

/// A chunk's elements, widened exactly; and back, rounded to nearest even.
template <class E>
DEVICE void widen(const Chunk& chunk, float (&out)[kPerChunk<E>]) {
  UNROLL for (int w = 0; w < 4; ++w) {
    const FloatPair pair = unpack<E>(chunk.word[w]);
    out[2 * w] = pair.low;
    out[2 * w + 1] = pair.high;
  }
}
template <>
DEVICE void widen<float>(const Chunk& chunk, float (&out)[4]) {
  UNROLL for (int w = 0; w < 4; ++w) out[w] = float_of_bits(chunk.word[w]);
}
template <class E>
DEVICE Chunk narrow(const float (&in)[kPerChunk<E>]) {
  Chunk chunk;
  UNROLL for (int w = 0; w < 4; ++w) chunk.word[w] = pack<E>(in[2 * w], in[2 * w + 1]);
  return chunk;
}
template <>
DEVICE Chunk narrow<float>(const float (&in)[4]) {
  Chunk chunk;
  UNROLL for (int w = 0; w < 4; ++w) chunk.word[w] = bits_of_float(in[w]);
  return chunk;
}

}  // namespace matryoshka::cuda
