// The boundary: everything that knows about JavaScript, and nothing that knows about layers.
#include <napi.h>

#include "addon/convert.h"
#include "addon/engine_object.h"
#include "addon/trace.h"
#include "addon/trainer_object.h"
#include "cpu/cpu_backend.h"
#include "cuda/plugin_stream.h"

namespace matryoshka::addon {
namespace {

Napi::Value inspect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string directory = info[0].ToString();
  return translated(env, [&] { return from_checkpoint(env, *Checkpoint::open(directory)); });
}

Napi::Value machine(const Napi::CallbackInfo& info) {
  auto out = Napi::Object::New(info.Env());
  out.Set("isas", from_strings(info.Env(), cpu_isas()));
  out.Set("features", from_strings(info.Env(), cpu_features()));
  return out;
}

Napi::Value gpus(const Napi::CallbackInfo& info) { return from_gpus(info.Env(), cuda::find_gpus()); }

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("Engine", define_engine(env));
  exports.Set("Trainer", define_trainer(env));
  exports.Set("inspect", Napi::Function::New<inspect>(env, "inspect"));
  exports.Set("gpus", Napi::Function::New<gpus>(env, "gpus"));
  exports.Set("machine", Napi::Function::New<machine>(env, "machine"));
  exports.Set("trace", Napi::Function::New<trace>(env, "trace"));
  return exports;
}

NODE_API_MODULE(matryoshka, init)

}  // namespace
}  // namespace matryoshka::addon
