#include "model/tensor.h"

#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define MATRYOSHKA_F16C
#endif

namespace matryoshka {
namespace {

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// binary16 -> binary32, bit for bit what the F16C instruction gives: signalling NaNs come out quiet.
float from_f16(uint16_t half) {
  constexpr uint32_t rebias = (127 - 15) << 23;
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7FFF) << 13;
  uint32_t bits = magnitude + rebias;
  if (magnitude >= 0x7C00u << 13) {
    bits = magnitude | 0x7F800000 | (magnitude & 0x007FFFFF ? 0x00400000 : 0);
  } else if (magnitude < 0x0400u << 13) {
    // Subnormal: as the mantissa of a float whose last place is worth 2^-24, less that float's leading one.
    const float value = float_of(magnitude + rebias + (1u << 23)) - float_of(rebias + (1u << 23));
    std::memcpy(&bits, &value, sizeof bits);
  }
  return float_of(bits | sign);
}

void widen_f16(const std::byte* from, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = from_f16(load<uint16_t>(from + 2 * i));
}

#ifdef MATRYOSHKA_F16C
__attribute__((target("avx,f16c"))) void widen_f16_f16c(const std::byte* from, size_t count, float* out) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(halves));
  }
  widen_f16(from + 2 * i, count - i, out + i);
}
#endif

}  // namespace

void widen(const Tensor& tensor, size_t first, size_t count, float* out) {
  const std::byte* from = tensor.data + first * size_of(tensor.type);
  switch (tensor.type) {
    case StoredType::f32:
      if (count) std::memcpy(out, from, count * sizeof(float));
      return;
    case StoredType::f16:
#ifdef MATRYOSHKA_F16C
      // Every processor with AVX2 has F16C; older compilers can ask for the former only.
      static const bool f16c = __builtin_cpu_supports("avx2");
      if (f16c) return widen_f16_f16c(from, count, out);
#endif
      return widen_f16(from, count, out);
    case StoredType::bf16:
      for (size_t i = 0; i < count; ++i) {
        const uint32_t bits = static_cast<uint32_t>(load<uint16_t>(from + 2 * i)) << 16;
        std::memcpy(out + i, &bits, sizeof bits);
      }
      return;
    case StoredType::i8:
      for (size_t i = 0; i < count; ++i) out[i] = load<int8_t>(from + i);
      return;
  }
}

std::vector<float> widened(const Tensor& tensor) {
  std::vector<float> out(tensor.count());
  widen(tensor, 0, out.size(), out.data());
  return out;
}

}  // namespace matryoshka
