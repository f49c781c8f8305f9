// The backend's own threads: they sleep between calls and start one body together with the caller.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace matryoshka::cpu {

class ThreadPool {
 public:
  /// Starts threads - 1 workers; the caller of run is the last one. Throws ERR_INVALID_ARGUMENT where the system starts fewer.
  explicit ThreadPool(int threads);
  ~ThreadPool();

  int threads() const { return static_cast<int>(workers_.size()) + 1; }
  /// Calls body(0) here and body(1) … body(count - 1) on workers, and returns when all have. count <= threads().
  /// The first exception thrown by a body is rethrown here.
  void run(int count, const std::function<void(int)>& body);
  /// Calls body(0) … body(count - 1), each on whoever is free.
  template <class Body>
  void each(size_t count, const Body& body) {
    std::atomic<size_t> next{0};
    run(threads(), [&](int) {
      for (size_t i; (i = next.fetch_add(1)) < count;) body(static_cast<int>(i));
    });
  }

 private:
  void stop();
  void work(int index);
  void guarded(int index);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int)>* body_ = nullptr;
  std::exception_ptr error_;
  int count_ = 0;
  int pending_ = 0;
  bool stopped_ = false;
  std::atomic<unsigned> generation_{0};
};

}  // namespace matryoshka::cpu
