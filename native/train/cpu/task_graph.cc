// Tasks are claimed in order, and wait only for tasks before them: the earliest unfinished one can always run, so
// nobody waits for ever.
#include "train/cpu/task_graph.h"

#include <atomic>
#include <memory>

#include "cpu/spin.h"

namespace matryoshka::train {
namespace {

struct Progress {
  explicit Progress(int tasks) : left(tasks), done(new std::atomic<bool>[tasks]) {
    for (int i = 0; i < tasks; ++i) done[i] = false;
  }
  std::atomic<int> left;
  std::unique_ptr<std::atomic<bool>[]> done;
};

struct Stopped {};

}  // namespace

void run_phases(cpu::ThreadPool& pool, const std::vector<Phase>& phases) {
  std::vector<std::unique_ptr<Progress>> progress;
  std::vector<size_t> ends;
  size_t total = 0;
  for (const Phase& phase : phases) {
    progress.push_back(std::make_unique<Progress>(phase.tasks));
    ends.push_back(total += phase.tasks);
  }
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  const auto wait = [&](const auto& ready) {
    if (!cpu::spin_until(ready, failed)) throw Stopped();
  };
  pool.run(pool.threads(), [&](int worker) {
    try {
      size_t p = 0;
      for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < total;) {
        while (i >= ends[p]) ++p;
        const Phase& phase = phases[p];
        const int task = static_cast<int>(i - (ends[p] - phase.tasks));
        for (const int other : phase.after) wait([&] { return progress[other]->left.load(std::memory_order_acquire) == 0; });
        if (phase.same_task_of >= 0) wait([&] { return progress[phase.same_task_of]->done[task].load(std::memory_order_acquire); });
        phase.body(task, worker);
        progress[p]->done[task].store(true, std::memory_order_release);
        progress[p]->left.fetch_sub(1, std::memory_order_acq_rel);
      }
    } catch (const Stopped&) {
    } catch (...) {
      failed = true;
      throw;
    }
  });
}

}  // namespace matryoshka::train
