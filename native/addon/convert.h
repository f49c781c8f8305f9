// Between JavaScript values and the engine's plain structs; the only file that knows both shapes.
#pragma once

#include <napi.h>

#include <string>
#include <system_error>

#include "cuda/plugin_stream.h"
#include "engine/engine.h"
#include "model/error.h"

namespace matryoshka::addon {

/// A JavaScript Error with `code`; lib/native.ts turns it into the package's class.
Napi::Error coded(Napi::Env env, const std::string& code, const std::string& message);

/// A copy of the Float32Array of that name, or nothing where it is left out; throws ERR_INVALID_ARGUMENT for anything else.
std::vector<float> to_floats(const Napi::Object& object, const char* name);
/// Copies: the caller may reuse or transfer its buffers as soon as submit returns.
TokenBatch to_batch(const Napi::Object& batch);
/// NativePlan of lib/native.ts for a batch of `sequences`; throws ERR_INVALID_ARGUMENT for a layer that is no exit.
ExitPlan to_plan(const Napi::Object& plan, const Checkpoint& checkpoint, size_t sequences);

Napi::Object from_checkpoint(Napi::Env env, const Checkpoint& checkpoint);
Napi::Object from_job(Napi::Env env, const Job& job);
/// NativeGpus of lib/native.ts.
Napi::Object from_gpus(Napi::Env env, const cuda::Gpus& gpus);
Napi::Array from_strings(Napi::Env env, const std::vector<std::string>& strings);

/// Runs `body`, rethrowing a matryoshka::Error as a coded JavaScript error.
template <typename Body>
auto translated(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const Error& error) {
    throw coded(env, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    throw coded(env, "ERR_OUT_OF_MEMORY", "Expected enough memory to copy the batch but the system gave none");
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw coded(env, "ERR_INTERNAL", error.what());
  }
}

/// What `make` starts a thread for. Where the system starts none, lets `completions` go and throws.
template <typename Make>
auto with_thread(Napi::Env env, Napi::ThreadSafeFunction& completions, Make make) -> decltype(make()) {
  try {
    return make();
  } catch (const std::system_error& error) {
    completions.Release();
    throw coded(env, "ERR_INTERNAL", std::string("Expected the system to start a thread but it said: ") + error.what());
  }
}

}  // namespace matryoshka::addon
