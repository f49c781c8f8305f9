// Work in phases over a thread pool, without barriers: tasks start in listed order, and each waits for what it needs.
#pragma once

#include <functional>
#include <vector>

#include "cpu/thread_pool.h"

namespace matryoshka::train {

struct Phase {
  int tasks = 0;
  std::function<void(int task, int worker)> body;
  int same_task_of = -1;   ///< an earlier phase: task i waits for that one's task i
  std::vector<int> after;  ///< earlier phases: every task waits for all of theirs
};

/// Runs all phases; worker is in [0, pool.threads()). The first exception ends the work and is rethrown.
void run_phases(cpu::ThreadPool& pool, const std::vector<Phase>& phases);

}  // namespace matryoshka::train
