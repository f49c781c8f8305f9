#include "cpu/cpu_features.h"

#include "cpu/cpu_backend.h"
#include "model/error.h"

namespace matryoshka {
namespace cpu {

extern const Kernels portable_kernels;
#ifdef __x86_64__
extern const Kernels avx512_kernels;
#endif

namespace {

#ifdef __x86_64__
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

std::vector<Isa> find_isas() {
  std::vector<Isa> isas;
#ifdef __x86_64__
  if (has_avx512()) isas.push_back({"avx512", &avx512_kernels});
#endif
  isas.push_back({"portable", &portable_kernels});
  return isas;
}

}  // namespace

const std::vector<Isa>& runnable_isas() {
  static const std::vector<Isa> isas = find_isas();
  return isas;
}

const Isa& choose_isa(const std::string& name) {
  const std::vector<Isa>& isas = runnable_isas();
  if (name.empty()) return isas.front();
  std::string known;
  for (const Isa& isa : isas) {
    if (isa.name == name) return isa;
    known += (known.empty() ? "" : ", ") + isa.name;
  }
  throw Error("ERR_INVALID_ARGUMENT", "Expected an instruction set this machine can run (" + known + ") but received \"" + name + "\"");
}

}  // namespace cpu

std::vector<std::string> cpu_isas() {
  std::vector<std::string> names;
  for (const cpu::Isa& isa : cpu::runnable_isas()) names.push_back(isa.name);
  return names;
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> features;
#ifdef __x86_64__
#define FEATURE(name) \
  if (__builtin_cpu_supports(name)) features.push_back(name)
  FEATURE("avx512f");
  FEATURE("avx512bw");
  FEATURE("avx512vl");
  FEATURE("avx512dq");
#undef FEATURE
#endif
  return features;
}

}  // namespace matryoshka
