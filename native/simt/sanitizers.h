// What the sanitizers must be told about fibers, ordering and memory that is not there yet; nothing in a plain build.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_THREAD__) || defined(MATRYOSHKA_SIMT_TSAN)
#define SIMT_TSAN 1
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void* __tsan_get_current_fiber(void);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#else
#define SIMT_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
extern "C" {
void __asan_poison_memory_region(const volatile void* address, size_t size);
void __asan_unpoison_memory_region(const volatile void* address, size_t size);
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
}
#else
#define SIMT_ASAN 0
#endif

namespace matryoshka::simt {

/// While it lives, what the current fiber does through the allocator or memmove is none of the race detector's business:
/// the emulator's own lists, which only one thread ever runs over.
struct Unwatched {
#if SIMT_TSAN
  Unwatched() {
    AnnotateIgnoreReadsBegin("", 0);
    AnnotateIgnoreWritesBegin("", 0);
  }
  ~Unwatched() {
    AnnotateIgnoreWritesEnd("", 0);
    AnnotateIgnoreReadsEnd("", 0);
  }
#else
  Unwatched() {}
#endif
};

/// `address` stands for a point in time: what came before release happens before what follows acquire.
inline void tsan_release([[maybe_unused]] void* address) {
#if SIMT_TSAN
  __tsan_release(address);
#endif
}
inline void tsan_acquire([[maybe_unused]] void* address) {
#if SIMT_TSAN
  __tsan_acquire(address);
#endif
}
inline void asan_poison([[maybe_unused]] const void* address, [[maybe_unused]] size_t size) {
#if SIMT_ASAN
  __asan_poison_memory_region(address, size);
#endif
}
inline void asan_unpoison([[maybe_unused]] const void* address, [[maybe_unused]] size_t size) {
#if SIMT_ASAN
  __asan_unpoison_memory_region(address, size);
#endif
}

}  // namespace matryoshka::simt
