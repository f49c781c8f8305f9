#include "addon/trace.h"

#include <algorithm>

#include "addon/convert.h"
#include "addon/device.h"
#include "cuda/cuda_backend.h"
#include "cuda/traced_stream.h"
#include "engine/forward.h"

namespace matryoshka::addon {
namespace {

/// One field of every launch's cost.
template <class Array, class Field>
Array column(Napi::Env env, const std::vector<cuda::LaunchCost>& costs, Field cuda::LaunchCost::*field) {
  auto array = Array::New(env, costs.size());
  std::transform(costs.begin(), costs.end(), array.Data(), [&](const cuda::LaunchCost& cost) { return cost.*field; });
  return array;
}

}  // namespace

Napi::Value trace(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return translated(env, [&] {
    const auto checkpoint = Checkpoint::open(info[0].ToString());
    const Options options = to_options(info[1].As<Napi::Object>());
    cuda::Trace trace;
    const auto backend =
        make_cuda_backend(checkpoint, std::make_unique<cuda::TracedStream>(make_stream(options), trace, true), to_element(options));
    const TokenBatch batch = to_batch(info[2].As<Napi::Object>());
    validate(batch, checkpoint->architecture());
    const ExitPlan plan = to_plan(info[3].As<Napi::Object>(), *checkpoint, batch.sequences());
    const uint32_t passes = info[4].ToNumber().Uint32Value();

    auto milliseconds = Napi::Array::New(env, passes);
    const std::atomic<bool> cancelled{false};
    Scores scores;
    for (uint32_t pass = 0; pass < passes; ++pass) {
      trace.clear();
      forward(*backend, *checkpoint, batch, plan, cancelled, scores);
      milliseconds.Set(pass, column<Napi::Float32Array>(env, trace.costs, &cuda::LaunchCost::milliseconds));
    }
    auto out = Napi::Object::New(env);
    out.Set("backend", backend->describe());
    out.Set("calls", from_strings(env, trace.calls));
    out.Set("kernels", from_strings(env, trace.kernels));
    out.Set("bytes", column<Napi::Float64Array>(env, trace.costs, &cuda::LaunchCost::bytes));
    out.Set("milliseconds", milliseconds);
    return out;
  });
}

}  // namespace matryoshka::addon
