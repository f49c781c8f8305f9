#include "engine/engine.h"

#include <chrono>
#include <utility>

#include "engine/forward.h"
#include "engine/guarded.h"

namespace matryoshka {
Engine::Engine(Load load, OnReady on_ready, OnDone on_done)
    : on_ready_(std::move(on_ready)), on_done_(std::move(on_done)), thread_([this, load = std::move(load)] { loop(load); }) {}

void Engine::submit(std::shared_ptr<Job> job) {
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void Engine::stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    if (running_) running_->cancelled = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Engine::loop(const Load& load) {
  std::string code, message;
  guarded(code, message, [&] { model_ = load(); });
  on_ready_(code.empty() ? &model_ : nullptr, code, message);
  if (!code.empty()) return;
  for (;;) {
    std::shared_ptr<Job> job;
    {
      std::unique_lock lock(mutex_);
      running_ = nullptr;
      wake_.wait(lock, [this] { return stopped_ || !queue_.empty(); });
      if (stopped_) return;
      job = std::move(queue_.front());
      queue_.pop_front();
      running_ = job;
    }
    execute(*job);
    on_done_(std::move(job));
  }
}

void Engine::execute(Job& job) {
  const auto start = std::chrono::steady_clock::now();
  guarded(job.error_code, job.error_message, [&] {
    if (job.cancelled || !forward(*model_.backend, *model_.checkpoint, job.batch, job.plan, job.cancelled, job.scores))
      throw Error("ERR_ABORTED", "The call was aborted");
  });
  job.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace matryoshka
