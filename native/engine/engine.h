// One opened model on a thread of its own: jobs go in from any thread, come back in order through a callback. As many are
// under way at once as the backend takes, so that a device need not wait for the host between two.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "engine/backend.h"

namespace matryoshka {

struct Job {
  uint32_t id = 0;
  TokenBatch batch;
  ExitPlan plan;
  std::atomic<bool> cancelled{false};
  Scores scores;
  double milliseconds = 0;  ///< that it had the engine, not counting those during which the job before it did
  std::string error_code;  ///< empty when the job succeeded
  std::string error_message;
};

class Engine {
 public:
  struct Model {
    std::shared_ptr<const Checkpoint> checkpoint;
    std::unique_ptr<Backend> backend;
  };
  /// `load` runs first on the engine's thread. `on_ready` gets the model, or null and the error; `on_done` gets every
  /// job exactly once, unless stop() came first. Both are called on the engine's thread.
  using Load = std::function<Model()>;
  using OnReady = std::function<void(const Model*, const std::string& code, const std::string& message)>;
  using OnDone = std::function<void(std::shared_ptr<Job>)>;

  Engine(Load load, OnReady on_ready, OnDone on_done);
  ~Engine() { stop(); }

  void submit(std::shared_ptr<Job> job);
  /// Cancels what is under way, drops what waits, joins the thread and frees the model. Idempotent; call it from one thread.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  struct Running {
    std::shared_ptr<Job> job;
    int depth = 0;            ///< that it will have reached
    Clock::time_point since;  ///< it was begun
  };

  void loop(const Load& load);
  void begin(Running& running);
  void end_oldest();

  OnReady on_ready_;
  OnDone on_done_;
  Model model_;  // touched by the engine's thread only
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::deque<Running> running_;  // oldest first; changed by the engine's thread only
  Clock::time_point free_since_;  // when the job before the oldest ended
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace matryoshka
