#include "pass.h"

#include "cpu/cpu_backend.h"
#include "engine/forward.h"
#include "model/error.h"
#include "timed_backend.h"

namespace matryoshka::bench {
namespace {

Dtype dtype_of(const std::string& name) { return name == "bf16" ? Dtype::bf16 : name == "int8" ? Dtype::int8 : Dtype::f32; }

std::vector<int32_t> integers(const Napi::Value& value) {
  if (value.IsUndefined()) return {};
  const auto array = value.As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

class Passes {
 public:
  Passes(const std::string& directory, Dtype dtype, TokenBatch batch)
      : checkpoint_(Checkpoint::open(directory)), backend_(make_cpu_backend(checkpoint_, {1, dtype, ""})), batch_(std::move(batch)) {
    validate(batch_, checkpoint_->architecture());
    plan_.depth = checkpoint_->exit_layers().back();
    plan_.report.assign(checkpoint_->exit_layers().size(), 0);
    plan_.report.back() = 1;
  }

  void run() {
    const std::atomic<bool> cancelled{false};
    const auto start = std::chrono::steady_clock::now();
    forward(backend_, *checkpoint_, batch_, plan_, cancelled, scores_);
    whole_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  Napi::Value seconds(Napi::Env env) const {
    auto out = Napi::Object::New(env);
    for (size_t i = 0; i < kParts.size(); ++i) out.Set(kParts[i], static_cast<double>(backend_.times()[i]) * 1e-9);
    out.Set("whole", whole_);
    return out;
  }

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  TimedBackend backend_;
  const TokenBatch batch_;
  ExitPlan plan_;
  Scores scores_;
  double whole_ = 0;
};

}  // namespace

Napi::Value pass(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto batch = info[2].As<Napi::Object>();
  try {
    const auto passes = std::make_shared<Passes>(
        info[0].As<Napi::String>(), dtype_of(info[1].As<Napi::String>()),
        TokenBatch{integers(batch.Get("tokenIds")), integers(batch.Get("typeIds")), integers(batch.Get("cuSeqlens")), integers(batch.Get("listOffsets"))});
    auto out = Napi::Object::New(env);
    out.Set("run", Napi::Function::New(env, [passes](const Napi::CallbackInfo&) { passes->run(); }));
    out.Set("seconds", Napi::Function::New(env, [passes](const Napi::CallbackInfo& call) { return passes->seconds(call.Env()); }));
    return out;
  } catch (const Error& error) {
    throw Napi::Error::New(env, error.what());
  }
}

}  // namespace matryoshka::bench
