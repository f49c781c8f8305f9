#include "cpu/thread_pool.h"

#include <string>
#include <system_error>
#include <utility>

#include "cpu/spin.h"
#include "model/error.h"

namespace matryoshka::cpu {
namespace {

/// About 20 µs: longer than the pause between two calls of one forward pass, too short to be seen in a process list.
constexpr int kSpins = 500;

}  // namespace

ThreadPool::ThreadPool(int threads) {
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error&) {
    const size_t started = workers_.size() + 1;
    stop();
    throw Error("ERR_INVALID_ARGUMENT", "Expected the system to start " + std::to_string(threads) + " threads but it had only " +
                                            std::to_string(started) + " for this process; ask for fewer");
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    ++generation_;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int count, const std::function<void(int)>& body) {
  if (count > 1) {
    {
      std::lock_guard lock(mutex_);
      body_ = &body;
      count_ = count;
      pending_ = count - 1;
      ++generation_;
    }
    wake_.notify_all();
  } else {
    body_ = &body;
  }
  guarded(0);
  std::unique_lock lock(mutex_);
  if (count > 1) done_.wait(lock, [this] { return pending_ == 0; });
  if (std::exception_ptr error = std::exchange(error_, nullptr)) std::rethrow_exception(error);
}

void ThreadPool::guarded(int index) {
  try {
    (*body_)(index);
  } catch (...) {
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void ThreadPool::work(int index) {
  for (unsigned seen = 0;;) {
    for (int spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen; ++spin) spin_pause();
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return generation_.load(std::memory_order_relaxed) != seen; });
    seen = generation_.load(std::memory_order_relaxed);
    if (stopped_) return;
    if (index >= count_) continue;
    lock.unlock();
    guarded(index);
    lock.lock();
    if (--pending_ == 0) done_.notify_one();
  }
}

}  // namespace matryoshka::cpu
