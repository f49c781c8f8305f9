// From the options of a model that is opened to what will run it.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "cpu/cpu_backend.h"
#include "cuda/element_type.h"
#include "cuda/stream.h"
#include "engine/backend.h"

namespace matryoshka::addon {

struct Options {
  std::string device, dtype;  ///< device without its number
  int gpu = 0;
  CpuOptions cpu;
};

/// NativeOptions of lib/native.ts.
Options to_options(const Napi::Object& object);

/// Throws ERR_UNSUPPORTED_DEVICE, ERR_UNSUPPORTED_DTYPE, ERR_OUT_OF_MEMORY.
std::unique_ptr<Backend> make_backend(const std::shared_ptr<const Checkpoint>& checkpoint, const Options& options);

/// Of a device that runs the CUDA kernels: cuda or emulator.
std::unique_ptr<cuda::Stream> make_stream(const Options& options);
cuda::ElementType to_element(const Options& options);

}  // namespace matryoshka::addon
