#include "engine/engine.h"

#include <algorithm>
#include <utility>

#include "engine/forward.h"
#include "engine/guarded.h"
#include "engine/queries.h"

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
    for (const Running& running : running_) running.job->cancelled = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  running_.clear();
  queue_.clear();
  model_ = {};
}

void Engine::loop(const Load& load) {
  std::string code, message;
  guarded(code, message, [&] { model_ = load(); });
  on_ready_(code.empty() ? &model_ : nullptr, code, message);
  if (!code.empty()) return;
  for (;;) {
    bool begins = false;
    {
      std::unique_lock lock(mutex_);
      if (running_.empty()) wake_.wait(lock, [this] { return stopped_ || !queue_.empty(); });
      if (stopped_) return;
      begins = !queue_.empty() && running_.size() < model_.backend->capacity();
      if (begins) {
        running_.push_back({std::move(queue_.front()), 0, Clock::now()});
        queue_.pop_front();
      }
    }
    if (begins) begin(running_.back());
    else end_oldest();
  }
}

void Engine::begin(Running& running) {
  Job& job = *running.job;
  guarded(job.error_code, job.error_message, [&] {
    if (job.cancelled) return;
    add_queries(model_.checkpoint->architecture().head, job.batch, job.plan.rule);
    running.depth = begin_forward(*model_.backend, *model_.checkpoint, job.batch, job.plan, job.cancelled);
  });
}

/// A job that failed at its beginning waits for its turn too, so that jobs come back in order.
void Engine::end_oldest() {
  const Running& oldest = running_.front();
  Job& job = *oldest.job;
  if (job.error_code.empty())
    guarded(job.error_code, job.error_message, [&] {
      if (oldest.depth > 0) finish_forward(*model_.backend, job.batch.queries, job.plan, oldest.depth, job.scores);
      if (job.cancelled) throw Error("ERR_ABORTED", "The call was aborted");
    });
  const Clock::time_point now = Clock::now();
  job.milliseconds = std::chrono::duration<double, std::milli>(now - std::max(oldest.since, free_since_)).count();
  free_since_ = now;
  std::shared_ptr<Job> done = oldest.job;
  {
    std::lock_guard lock(mutex_);
    running_.pop_front();
  }
  on_done_(std::move(done));
}

}  // namespace matryoshka
