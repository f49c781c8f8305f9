#include "addon/engine_object.h"

#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>

#include "addon/convert.h"
#include "addon/device.h"

namespace matryoshka::addon {
namespace {

// What outlives the object while completions are under way. Touched by the JavaScript thread only, except `checkpoint`,
// which the engine's thread sets before it reports ready.
struct Channel {
  std::unordered_map<uint32_t, Napi::Promise::Deferred> pending;
  std::optional<Napi::Promise::Deferred> ready;
  std::shared_ptr<const Checkpoint> checkpoint;
  class EngineObject* owner = nullptr;
};

class EngineObject final : public Napi::ObjectWrap<EngineObject> {
 public:
  explicit EngineObject(const Napi::CallbackInfo& info) : ObjectWrap(info), channel_(std::make_shared<Channel>()) {
    const Napi::Env env = info.Env();
    const std::string directory = info[0].ToString();
    const Options options = translated(env, [&] { return to_options(info[1].As<Napi::Object>()); });
    channel_->owner = this;
    channel_->ready.emplace(env);
    info.This().As<Napi::Object>().Set("ready", channel_->ready->Promise());
    completions_ = Napi::ThreadSafeFunction::New(env, Napi::Function(), "matryoshka.engine", 0, 1);
    engine_ = with_thread(env, completions_, [&] {
      return std::make_unique<Engine>([directory, options] { return load(directory, options); },
                                      [this, channel = channel_](const Engine::Model* model, const std::string& code, const std::string& message) {
                                        report_ready(channel, model, code, message);
                                      },
                                      [this, channel = channel_](std::shared_ptr<Job> job) { report_done(channel, std::move(job)); });
    });
    napi_add_env_cleanup_hook(env, on_environment_end, this);
    Ref();  // until ready settles: a busy engine is not collected and keeps the process alive
  }

  ~EngineObject() override {
    napi_remove_env_cleanup_hook(Env(), on_environment_end, this);  // else the hook outlives the object
    stop();
  }

  Napi::Value Submit(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (stopped_) throw coded(env, "ERR_CLOSED", "Expected an open engine but it was closed");
    if (!channel_->checkpoint) throw coded(env, "ERR_INTERNAL", "Expected submit after ready");
    auto job = std::make_shared<Job>();
    translated(env, [&] {
      job->batch = to_batch(info[0].As<Napi::Object>());
      validate(job->batch, channel_->checkpoint->architecture());
      job->plan = to_plan(info[1].As<Napi::Object>(), *channel_->checkpoint, job->batch.cu_seqlens.size() - 1);
    });
    job->id = ++last_id_;
    const auto deferred = Napi::Promise::Deferred::New(env);
    if (channel_->pending.empty()) hold(env);
    channel_->pending.emplace(job->id, deferred);
    jobs_[job->id] = job;
    engine_->submit(job);
    auto out = Napi::Object::New(env);
    out.Set("id", job->id);
    out.Set("promise", deferred.Promise());
    return out;
  }

  void Cancel(const Napi::CallbackInfo& info) {
    const auto found = jobs_.find(info[0].ToNumber().Uint32Value());
    if (found == jobs_.end()) return;
    if (const auto job = found->second.lock()) job->cancelled = true;
  }

  void Close(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (stopped_) return;
    stop();
    const auto closed = coded(env, "ERR_CLOSED", "The engine was closed before this call finished").Value();
    const bool held = channel_->ready || !channel_->pending.empty();
    if (channel_->ready) channel_->ready->Reject(closed);
    channel_->ready.reset();
    for (auto& [id, deferred] : channel_->pending) deferred.Reject(closed);
    channel_->pending.clear();
    jobs_.clear();
    if (held) Unref();
  }

 private:
  static Engine::Model load(const std::string& directory, const Options& options) {
    auto checkpoint = Checkpoint::open(directory);
    auto backend = make_backend(checkpoint, options);
    return {std::move(checkpoint), std::move(backend)};
  }

  static void on_environment_end(void* self) { static_cast<EngineObject*>(self)->stop(); }

  void hold(Napi::Env env) {
    completions_.Ref(env);
    Ref();
  }

  void release_if_idle(Napi::Env env) {
    if (channel_->ready || !channel_->pending.empty()) return;
    if (!stopped_) completions_.Unref(env);
    Unref();
  }

  void stop() {
    if (stopped_) return;
    stopped_ = true;
    engine_->stop();
    channel_->checkpoint.reset();
    channel_->owner = nullptr;
    completions_.Release();
  }

  // On the engine's thread. The callback runs later on JavaScript's, perhaps after close: `owner` tells.
  template <typename Settle>
  void complete(Settle settle) {
    completions_.BlockingCall([settle = std::move(settle)](Napi::Env env, Napi::Function) {
      if (env == nullptr) return;
      try {
        Napi::HandleScope scope(env);
        settle(env);
      } catch (const Napi::Error&) {
        // The environment is being torn down: nobody is left to settle the promise for.
      }
    });
  }

  void report_ready(const std::shared_ptr<Channel>& channel, const Engine::Model* model, const std::string& code, const std::string& message) {
    const auto checkpoint = model ? model->checkpoint : nullptr;
    const std::string backend = model ? model->backend->describe() : "";
    complete([channel, checkpoint, backend, code, message](Napi::Env env) {
      if (!channel->ready || !channel->owner) return;
      const auto deferred = *channel->ready;
      channel->ready.reset();
      channel->checkpoint = checkpoint;
      if (checkpoint) {
        auto info = from_checkpoint(env, *checkpoint);
        info.Set("backend", backend);
        deferred.Resolve(info);
      } else {
        deferred.Reject(coded(env, code, message).Value());
      }
      channel->owner->release_if_idle(env);
    });
  }

  void report_done(const std::shared_ptr<Channel>& channel, std::shared_ptr<Job> job) {
    complete([channel, job = std::move(job)](Napi::Env env) {
      const auto found = channel->pending.find(job->id);
      if (found == channel->pending.end() || !channel->owner) return;
      const auto deferred = found->second;
      channel->pending.erase(found);
      channel->owner->jobs_.erase(job->id);
      if (job->error_code.empty()) deferred.Resolve(from_job(env, *job));
      else deferred.Reject(coded(env, job->error_code, job->error_message).Value());
      channel->owner->release_if_idle(env);
    });
  }

  std::shared_ptr<Channel> channel_;
  std::unordered_map<uint32_t, std::weak_ptr<Job>> jobs_;
  uint32_t last_id_ = 0;
  bool stopped_ = false;
  Napi::ThreadSafeFunction completions_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace

Napi::Function define_engine(Napi::Env env) {
  return EngineObject::DefineClass(env, "Engine",
                                   {EngineObject::InstanceMethod<&EngineObject::Submit>("submit"),
                                    EngineObject::InstanceMethod<&EngineObject::Cancel>("cancel"),
                                    EngineObject::InstanceMethod<&EngineObject::Close>("close")});
}

}  // namespace matryoshka::addon
