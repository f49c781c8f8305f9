#include "cpu/cpu_features.h"

#include <algorithm>

#include "cpu/cpu_backend.h"
#include "model/error.h"
#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace matryoshka {
namespace cpu {

extern const Kernels portable_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels, avx2_vnni_kernels, avx512_kernels, avx512_vnni_kernels, avx512_bf16_kernels, amx_kernels;
#elif defined(__aarch64__)
extern const Kernels neon_kernels, neon_dot_kernels, neon_bf16_kernels;
#endif

namespace {

struct Feature {
  const char* name;
  bool present;
};

#if defined(__x86_64__)
/// Tiles of bf16 and int8. Linux lends a process the tile registers when it asks for them (its x86/xstate documentation);
/// threads that are started later have them too.
bool has_amx() {
#if defined(__linux__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned bf16 = 1u << 22, tile = 1u << 24, int8 = 1u << 25, wanted = bf16 | tile | int8;
  constexpr long request_permission = 0x1023, tile_data = 18;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & wanted) == wanted && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}
#endif

/// Everything some variant needs.
std::vector<Feature> probe() {
#if defined(__x86_64__)
#define HAS(name) (__builtin_cpu_supports(name) != 0)  // takes a literal
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool avx_vnni = HAS("avx2") && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);  // g++ 12 has no name for it
  return {{"avx2", HAS("avx2")},         {"fma", HAS("fma")},           {"f16c", HAS("f16c")},
          {"avx_vnni", avx_vnni},        {"avx512f", HAS("avx512f")},   {"avx512bw", HAS("avx512bw")},
          {"avx512vl", HAS("avx512vl")}, {"avx512dq", HAS("avx512dq")}, {"avx512_vnni", HAS("avx512vnni")},
          {"avx512_bf16", HAS("avx512bf16")}, {"amx", has_amx()}};
#undef HAS
#elif defined(__aarch64__) && defined(__linux__)
  const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  return {{"neon", true}, {"dotprod", (first & 1ul << 20) != 0}, {"i8mm", (second & 1ul << 13) != 0}, {"bf16", (second & 1ul << 14) != 0}};
#elif defined(__aarch64__) && defined(__APPLE__)
  const auto has = [](const char* name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
  };
  return {{"neon", true},
          {"dotprod", has("hw.optional.arm.FEAT_DotProd")},
          {"i8mm", has("hw.optional.arm.FEAT_I8MM")},
          {"bf16", has("hw.optional.arm.FEAT_BF16")}};
#elif defined(__aarch64__)
  return {{"neon", true}};
#else
  return {};
#endif
}

std::vector<Variant> compiled_variants() {
  return {
#if defined(__x86_64__)
      {"amx", "amx", &amx_kernels, {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16", "amx"}},
      {"avx512", "avx512_bf16", &avx512_bf16_kernels, {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16"}},
      {"avx512", "avx512_vnni", &avx512_vnni_kernels, {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}},
      {"avx512", "avx512", &avx512_kernels, {"avx512f", "avx512bw", "avx512vl", "avx512dq"}},
      {"avx2", "avx2_vnni", &avx2_vnni_kernels, {"avx2", "fma", "f16c", "avx_vnni"}},
      {"avx2", "avx2", &avx2_kernels, {"avx2", "fma", "f16c"}},
#elif defined(__aarch64__)
      {"neon", "neon_bf16", &neon_bf16_kernels, {"neon", "dotprod", "i8mm", "bf16"}},
      {"neon", "neon_dot", &neon_dot_kernels, {"neon", "dotprod"}},
      {"neon", "neon", &neon_kernels, {"neon"}},
#endif
      {"portable", "portable", &portable_kernels, {}},
  };
}

}  // namespace

const std::vector<Variant>& runnable_variants() {
  static const std::vector<Variant> variants = [] {
    const std::vector<std::string> present = cpu_features();
    std::vector<Variant> all = compiled_variants();
    all.erase(std::remove_if(all.begin(), all.end(),
                             [&](const Variant& v) {
                               return std::any_of(v.needs.begin(), v.needs.end(), [&](const std::string& need) {
                                 return std::find(present.begin(), present.end(), need) == present.end();
                               });
                             }),
              all.end());
    return all;
  }();
  return variants;
}

const Variant& choose_variant(const std::string& isa) {
  for (const Variant& v : runnable_variants())
    if (isa.empty() || v.isa == isa) return v;
  std::string known;
  for (const std::string& name : cpu_isas()) known += (known.empty() ? "" : ", ") + name;
  throw Error("ERR_INVALID_ARGUMENT", "Expected an instruction set this machine can run (" + known + ") but received \"" + isa + "\"");
}

}  // namespace cpu

std::vector<std::string> cpu_isas() {
  std::vector<std::string> names;
  for (const cpu::Variant& v : cpu::runnable_variants())
    if (names.empty() || names.back() != v.isa) names.push_back(v.isa);
  return names;
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> names;
  for (const cpu::Feature& f : cpu::probe())
    if (f.present) names.push_back(f.name);
  return names;
}

}  // namespace matryoshka
