// One stack of execution that can be left in the middle and entered again: a CUDA thread, or the host that runs them.
#pragma once

#include <cstddef>

namespace matryoshka::simt {

struct Fiber {
  void* stack_pointer = nullptr;  ///< where it was left
  char* stack = nullptr;          ///< lowest address
  size_t stack_bytes = 0;
  void* tsan = nullptr;
  void* asan_fake_stack = nullptr;
};

/// A fiber over the calling thread's own stack.
Fiber host_fiber();
/// A fiber that calls `entry`, which must never return, when it is first switched to.
Fiber make_fiber(char* stack, size_t stack_bytes, void (*entry)());
/// Leaves `from`, which must be the running fiber, and goes on where `to` was left. Orders no memory.
void switch_fiber(Fiber& from, Fiber& to);
/// To be called first in `entry`.
void fiber_started();
/// Forgets a fiber that is not running and will not be switched to; its stack stays the caller's.
void forget(Fiber& fiber);

/// Stacks come from the system, with an unmapped page below: running over the end is a fault, not a silent write.
char* allocate_stack(size_t bytes);
void free_stack(char* stack, size_t bytes);

}  // namespace matryoshka::simt
