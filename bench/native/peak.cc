#include "peak.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace matryoshka::bench {
namespace {

constexpr int kChains = 12;  // more than latency × ports, so that no step waits

#if defined(__x86_64__)
#define CHAINS(acc, step)                        \
  for (long i = 0; i < rounds; ++i) {            \
    for (int j = 0; j < kChains; ++j) step;      \
    for (auto& a : acc) asm volatile("" : "+v"(a)); \
  }

__attribute__((target("avx512f"))) void avx512_f32(long rounds) {
  __m512 acc[kChains] = {}, b = _mm512_set1_ps(0.5f);
  asm volatile("" : "+v"(b));
  CHAINS(acc, acc[j] = _mm512_fmadd_ps(acc[j], b, b))
}

__attribute__((target("avx512f,avx512bf16"))) void avx512_bf16(long rounds) {
  __m512 acc[kChains] = {};
  __m512i b = _mm512_set1_epi32(0x3f003f00);
  asm volatile("" : "+v"(b));
  CHAINS(acc, acc[j] = _mm512_dpbf16_ps(acc[j], reinterpret_cast<__m512bh>(b), reinterpret_cast<__m512bh>(b)))
}

__attribute__((target("avx512f,avx512vnni"))) void avx512_int8(long rounds) {
  __m512i acc[kChains] = {}, b = _mm512_set1_epi32(0x01010101);
  asm volatile("" : "+v"(b));
  CHAINS(acc, acc[j] = _mm512_dpbusd_epi32(acc[j], b, b))
}

__attribute__((target("avx2,fma"))) void avx2_f32(long rounds) {
  __m256 acc[kChains] = {}, b = _mm256_set1_ps(0.5f);
  asm volatile("" : "+v"(b));
  CHAINS(acc, acc[j] = _mm256_fmadd_ps(acc[j], b, b))
}

__attribute__((target("avx2"))) void avx2_int16(long rounds) {
  __m256i acc[kChains] = {}, b = _mm256_set1_epi16(1);
  asm volatile("" : "+v"(b));
  CHAINS(acc, {
    __m256i product = _mm256_madd_epi16(b, b);
    asm volatile("" : "+v"(product));  // or it would be one for all
    acc[j] = _mm256_add_epi32(acc[j], product);
  })
}
#undef CHAINS
#endif

}  // namespace

double peak([[maybe_unused]] cpu::Format format, [[maybe_unused]] long rounds) {
#if defined(__x86_64__)
  const auto ran = [&](void (*steps)(long), double per_step) {
    steps(rounds);
    return rounds * kChains * per_step;
  };
  __builtin_cpu_init();
  switch (format) {
    case cpu::Format::bf16_dot:
      return __builtin_cpu_supports("avx512bf16") ? ran(avx512_bf16, 64) : 0;
    case cpu::Format::s8_dot:
      return __builtin_cpu_supports("avx512vnni") ? ran(avx512_int8, 128) : 0;
    case cpu::Format::s16_dot:
      return __builtin_cpu_supports("avx2") ? ran(avx2_int16, 32) : 0;
    default:
      if (__builtin_cpu_supports("avx512f")) return ran(avx512_f32, 32);
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? ran(avx2_f32, 16) : 0;
  }
#else
  return 0;
#endif
}

}  // namespace matryoshka::bench
