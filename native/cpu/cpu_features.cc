#include "cpu/cpu_features.h"

#include <algorithm>

#include "cpu/cpu_backend.h"
#include "model/error.h"

namespace matryoshka {
namespace cpu {

extern const Kernels portable_kernels;
#ifdef __x86_64__
extern const Kernels avx512_kernels, avx512_vnni_kernels, avx512_bf16_kernels;
#endif

namespace {

struct Feature {
  const char* name;
  bool present;
};

/// Everything some variant asks for.
std::vector<Feature> probe() {
#ifdef __x86_64__
#define FEATURE(name) {name, __builtin_cpu_supports(name) != 0}  // wants a literal
  return {FEATURE("avx512f"), FEATURE("avx512bw"), FEATURE("avx512vl"), FEATURE("avx512dq"), {"avx512_vnni", __builtin_cpu_supports("avx512vnni") != 0},
          {"avx512_bf16", __builtin_cpu_supports("avx512bf16") != 0}};
#undef FEATURE
#else
  return {};
#endif
}

/// The kernels of an instruction set with some of its extensions, and what they need. Best first.
struct Variant {
  const char* isa;
  const Kernels* kernels;
  std::vector<std::string> needs;
};

std::vector<Variant> variants() {
  std::vector<Variant> all;
#ifdef __x86_64__
  const std::vector<std::string> avx512 = {"avx512f", "avx512bw", "avx512vl", "avx512dq"};
  const auto with = [](std::vector<std::string> features, std::initializer_list<const char*> more) {
    features.insert(features.end(), more.begin(), more.end());
    return features;
  };
  all.push_back({"avx512", &avx512_bf16_kernels, with(avx512, {"avx512_vnni", "avx512_bf16"})});
  all.push_back({"avx512", &avx512_vnni_kernels, with(avx512, {"avx512_vnni"})});
  all.push_back({"avx512", &avx512_kernels, avx512});
#endif
  all.push_back({"portable", &portable_kernels, {}});
  return all;
}

std::vector<Isa> find_isas() {
  const std::vector<std::string> present = cpu_features();
  const auto has = [&](const std::string& feature) { return std::find(present.begin(), present.end(), feature) != present.end(); };
  std::vector<Isa> isas;
  for (const Variant& v : variants()) {
    const bool known = !isas.empty() && isas.back().name == v.isa;
    if (!known && std::all_of(v.needs.begin(), v.needs.end(), has)) isas.push_back({v.isa, v.kernels});
  }
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
  std::vector<std::string> names;
  for (const cpu::Feature& f : cpu::probe())
    if (f.present) names.push_back(f.name);
  return names;
}

}  // namespace matryoshka
