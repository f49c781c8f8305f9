// Tells the processor that a loop only waits for another thread.
#pragma once

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace matryoshka::cpu {

inline void spin_pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace matryoshka::cpu
