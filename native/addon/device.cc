#include "addon/device.h"

#include <cstdlib>
#include <initializer_list>
#include <utility>

#include "cuda/cuda_backend.h"
#include "cuda/emulator_stream.h"
#include "cuda/plugin_stream.h"
#include "model/error.h"
#include "reference/reference_backend.h"

namespace matryoshka::addon {
namespace {

/// The one of `names` that `name` is.
template <class Value>
Value named(const std::string& name, const char* what, const char* code, std::initializer_list<std::pair<const char*, Value>> names) {
  std::string known;
  for (const auto& [known_name, value] : names) {
    if (name == known_name) return value;
    known += known.empty() ? known_name : std::string(", ") + known_name;
  }
  throw Error(code, std::string("Expected one of ") + known + " for " + what + " but received " + name);
}

}  // namespace

Options to_options(const Napi::Object& object) {
  Options options;
  options.device = object.Get("device").ToString();
  options.cpu.threads = object.Get("threads").ToNumber().Int32Value();
  options.cpu.isa = object.Get("isa").ToString();
  options.dtype = object.Get("dtype").ToString();
  if (options.device.rfind("cuda:", 0) == 0) {  // lib/options.ts lets only digits through
    options.gpu = std::atoi(options.device.c_str() + 5);
    options.device = "cuda";
  }
  if (options.cpu.threads < 1) throw Error("ERR_INVALID_ARGUMENT", "Expected at least 1 thread");
  return options;
}

std::unique_ptr<Backend> make_backend(const std::shared_ptr<const Checkpoint>& checkpoint, const Options& options) {
  enum class Device { cpu, reference, kernels };
  switch (named<Device>(options.device, "device", "ERR_UNSUPPORTED_DEVICE",
                        {{"cpu", Device::cpu}, {"cuda", Device::kernels}, {"emulator", Device::kernels}, {"reference", Device::reference}})) {
    case Device::reference:
      return make_reference_backend(checkpoint);
    case Device::kernels:
      return make_cuda_backend(checkpoint, make_stream(options), to_element(options));
    case Device::cpu:
      break;
  }
  CpuOptions cpu = options.cpu;
  cpu.dtype = named<Dtype>(options.dtype, "dtype", "ERR_UNSUPPORTED_DTYPE", {{"f32", Dtype::f32}, {"bf16", Dtype::bf16}, {"int8", Dtype::int8}});
  return make_cpu_backend(checkpoint, cpu);
}

std::unique_ptr<cuda::Stream> make_stream(const Options& options) {
  const bool emulated = named<bool>(options.device, "device", "ERR_UNSUPPORTED_DEVICE", {{"cuda", false}, {"emulator", true}});
  return emulated ? cuda::make_emulator_stream() : cuda::make_gpu_stream(options.gpu, to_element(options));
}

cuda::ElementType to_element(const Options& options) {
  using cuda::ElementType;
  return named<ElementType>(options.dtype, "dtype", "ERR_UNSUPPORTED_DTYPE",
                            {{"f32", ElementType::f32}, {"bf16", ElementType::bf16}, {"f16", ElementType::f16}});
}

}  // namespace matryoshka::addon
