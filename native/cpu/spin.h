// Waiting for another thread: first by spinning, since it is nearly always about to be done.
#pragma once

#include <atomic>
#include <thread>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace matryoshka::cpu {

/// Tells the processor that a loop only waits.
inline void spin_pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// Waits for `ready()`. False where another thread has `failed` before.
template <class Ready>
bool spin_until(const Ready& ready, const std::atomic<bool>& failed) {
  constexpr int kSpins = 10000;
  for (int spins = 0; !ready(); ++spins) {
    if (failed.load(std::memory_order_relaxed)) return false;
    if (spins < kSpins) spin_pause();
    else std::this_thread::yield();  // more threads than processors: let the one that is waited for run
  }
  return true;
}

}  // namespace matryoshka::cpu
