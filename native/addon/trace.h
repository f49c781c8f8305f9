// Passes over one batch, launch by launch: what benchmarks of GPUs are made of.
#pragma once

#include <napi.h>

namespace matryoshka::addon {

/// (directory, NativeOptions, NativeBatch, NativePlan, passes) -> NativeTrace of lib/native.ts. Runs on the calling thread.
Napi::Value trace(const Napi::CallbackInfo& info);

}  // namespace matryoshka::addon
