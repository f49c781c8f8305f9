#include "addon/trainer_object.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "addon/convert.h"
#include "addon/trainer_convert.h"
#include "engine/guarded.h"

namespace matryoshka::addon {
namespace {

/// Runs work in order on one thread; what has not begun when it stops is dropped.
class SerialThread {
 public:
  SerialThread() : thread_([this] { loop(); }) {}
  ~SerialThread() { stop(); }

  void submit(std::function<void()> work) {
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
    }
    wake_.notify_one();
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

 private:
  void loop() {
    for (;;) {
      std::function<void()> work;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopped_ || !queue_.empty(); });
        if (stopped_) return;
        work = std::move(queue_.front());
        queue_.pop_front();
      }
      work();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  bool stopped_ = false;
  std::thread thread_;
};

/// What outlives the object while completions are under way. Touched by the JavaScript thread only.
struct Channel {
  std::unordered_map<uint32_t, Napi::Promise::Deferred> pending;
  std::vector<int> exit_layers;  ///< empty until ready
  class TrainerObject* owner = nullptr;
};

/// On the JavaScript thread: the value a promise resolves with.
using Settle = std::function<Napi::Value(Napi::Env)>;
/// On the trainer's thread.
using Work = std::function<Settle(std::unique_ptr<train::Trainer>&)>;

class TrainerObject final : public Napi::ObjectWrap<TrainerObject> {
 public:
  explicit TrainerObject(const Napi::CallbackInfo& info) : ObjectWrap(info), channel_(std::make_shared<Channel>()) {
    const Napi::Env env = info.Env();
    const std::string directory = info[0].ToString();
    if (!info[1].IsObject()) throw coded(env, "ERR_INVALID_ARGUMENT", "Expected an object for options");
    const train::TrainerOptions options = translated(env, [&] { return to_trainer_options(info[1].As<Napi::Object>()); });
    const train::MakeTrainBackend make = translated(env, [&] { return to_train_backend(info[1].As<Napi::Object>()); });
    channel_->owner = this;
    completions_ = Napi::ThreadSafeFunction::New(env, Napi::Function(), "matryoshka.trainer", 0, 1);
    completions_.Unref(env);
    thread_ = with_thread(env, completions_, [] { return std::make_unique<SerialThread>(); });
    napi_add_env_cleanup_hook(env, on_environment_end, this);
    info.This().As<Napi::Object>().Set("ready", submit(env, [directory, options, make, channel = channel_](std::unique_ptr<train::Trainer>& trainer) -> Settle {
      const auto checkpoint = Checkpoint::open_encoder(directory);
      trainer = std::make_unique<train::Trainer>(directory, options, make);
      const train::Layout& layout = trainer->layout();
      return [channel, checkpoint, &layout, backend = trainer->describe()](Napi::Env env) -> Napi::Value {
        channel->exit_layers = layout.exit_layers;
        return from_trainer(env, *checkpoint, layout, backend);
      };
    }));
  }

  ~TrainerObject() override {
    napi_remove_env_cleanup_hook(Env(), on_environment_end, this);  // else the hook outlives the object
    stop();
  }

  Napi::Value Step(const Napi::CallbackInfo& info) {
    return promised(info, [&]() -> Work {
      const Napi::Object input = object(info[0], "the batch");
      TokenBatch batch = to_batch(input);
      train::Targets targets = to_targets(input);
      train::LossConfig loss = to_loss(object(info[1], "the loss"), exit_layers());
      const train::LearningRates rates = to_rates(object(info[2], "the learning rates"));
      return [batch = std::move(batch), targets = std::move(targets), loss = std::move(loss), rates](std::unique_ptr<train::Trainer>& trainer) -> Settle {
        const auto start = std::chrono::steady_clock::now();
        const train::StepResult result = trainer->step(batch, targets, loss, rates);
        const double milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
        return [result, tokens = batch.tokens(), milliseconds](Napi::Env env) -> Napi::Value { return from_step(env, result, tokens, milliseconds); };
      };
    });
  }

  Napi::Value Score(const Napi::CallbackInfo& info) {
    return promised(info, [&]() -> Work {
      exit_layers();
      return [batch = to_batch(object(info[0], "the batch"))](std::unique_ptr<train::Trainer>& trainer) -> Settle {
        return [scores = trainer->score(batch)](Napi::Env env) -> Napi::Value {
          auto out = Napi::Float32Array::New(env, scores.size());
          std::copy(scores.begin(), scores.end(), out.Data());
          return out;
        };
      };
    });
  }

  Napi::Value Save(const Napi::CallbackInfo& info) {
    return with_path(info, [](train::Trainer& trainer, const std::string& path) { trainer.save(path); });
  }
  Napi::Value Load(const Napi::CallbackInfo& info) {
    return with_path(info, [](train::Trainer& trainer, const std::string& path) { trainer.load(path); });
  }
  Napi::Value Export(const Napi::CallbackInfo& info) {
    return with_path(info, [](train::Trainer& trainer, const std::string& path) { trainer.export_to(path); });
  }

  void Close(const Napi::CallbackInfo& info) {
    if (stopped_) return;
    stop();
    const auto closed = coded(info.Env(), "ERR_CLOSED", "The trainer was closed before this call finished").Value();
    const bool held = !channel_->pending.empty();
    for (auto& [id, deferred] : channel_->pending) deferred.Reject(closed);
    channel_->pending.clear();
    trainer_.reset();
    if (held) Unref();
  }

 private:
  static void on_environment_end(void* self) { static_cast<TrainerObject*>(self)->stop(); }

  static Napi::Object object(const Napi::Value& value, const char* what) {
    if (!value.IsObject()) throw Error("ERR_INVALID_ARGUMENT", std::string("Expected an object for ") + what);
    return value.As<Napi::Object>();
  }

  const std::vector<int>& exit_layers() const {
    if (channel_->exit_layers.empty()) throw Error("ERR_INTERNAL", "Expected this call after ready");
    return channel_->exit_layers;
  }

  /// A promise of the work that `prepare` makes of the arguments; what that throws rejects it.
  template <class Prepare>
  Napi::Value promised(const Napi::CallbackInfo& info, const Prepare& prepare) {
    const Napi::Env env = info.Env();
    std::string code, message;
    Work work;
    guarded(code, message, [&] {
      if (stopped_) throw Error("ERR_CLOSED", "Expected an open trainer but it was closed");
      work = prepare();
    });
    if (code.empty()) return submit(env, std::move(work));
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(coded(env, code, message).Value());
    return deferred.Promise();
  }

  template <class Body>
  Napi::Value with_path(const Napi::CallbackInfo& info, const Body& body) {
    return promised(info, [&]() -> Work {
      exit_layers();
      if (!info[0].IsString()) throw Error("ERR_INVALID_ARGUMENT", "Expected a string for the path");
      return [body, path = static_cast<std::string>(info[0].As<Napi::String>())](std::unique_ptr<train::Trainer>& trainer) -> Settle {
        body(*trainer, path);
        return [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
      };
    });
  }

  Napi::Value submit(Napi::Env env, Work work) {
    const auto deferred = Napi::Promise::Deferred::New(env);
    const uint32_t id = ++last_id_;
    if (channel_->pending.empty()) {  // a busy trainer is not collected and keeps the process alive
      completions_.Ref(env);
      Ref();
    }
    channel_->pending.emplace(id, deferred);
    thread_->submit([this, channel = channel_, id, work = std::move(work)] {
      std::string code, message;
      Settle settle;
      guarded(code, message, [&] { settle = work(trainer_); });
      completions_.BlockingCall([channel, id, code, message, settle = std::move(settle)](Napi::Env env, Napi::Function) {
        if (env == nullptr) return;
        try {
          Napi::HandleScope scope(env);
          finish(env, *channel, id, code, message, settle);
        } catch (const Napi::Error&) {
          // The environment is being torn down: nobody is left to settle the promise for.
        }
      });
    });
    return deferred.Promise();
  }

  /// On the JavaScript thread, perhaps after close: `owner` tells.
  static void finish(Napi::Env env, Channel& channel, uint32_t id, const std::string& code, const std::string& message, const Settle& settle) {
    const auto found = channel.pending.find(id);
    if (found == channel.pending.end() || !channel.owner) return;
    const auto deferred = found->second;
    channel.pending.erase(found);
    if (code.empty()) deferred.Resolve(settle(env));
    else deferred.Reject(coded(env, code, message).Value());
    if (!channel.pending.empty()) return;
    channel.owner->completions_.Unref(env);
    channel.owner->Unref();
  }

  void stop() {
    if (stopped_) return;
    stopped_ = true;
    thread_->stop();
    channel_->owner = nullptr;
    completions_.Release();
  }

  std::shared_ptr<Channel> channel_;
  uint32_t last_id_ = 0;
  bool stopped_ = false;
  Napi::ThreadSafeFunction completions_;
  std::unique_ptr<train::Trainer> trainer_;  // the thread's, until it has ended
  std::unique_ptr<SerialThread> thread_;
};

}  // namespace

Napi::Function define_trainer(Napi::Env env) {
  return TrainerObject::DefineClass(env, "Trainer",
                                    {TrainerObject::InstanceMethod<&TrainerObject::Step>("step"), TrainerObject::InstanceMethod<&TrainerObject::Score>("score"),
                                     TrainerObject::InstanceMethod<&TrainerObject::Save>("save"), TrainerObject::InstanceMethod<&TrainerObject::Load>("load"),
                                     TrainerObject::InstanceMethod<&TrainerObject::Export>("export"), TrainerObject::InstanceMethod<&TrainerObject::Close>("close")});
}

}  // namespace matryoshka::addon
