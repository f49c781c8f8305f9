// Switching by hand: callee-saved registers go to the stack, the stack pointer changes, and they come back. No signal
// masks, so a switch costs some ten nanoseconds where ucontext costs hundreds.
#include "simt/fiber.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <new>

#include "simt/sanitizers.h"

extern "C" void matryoshka_simt_switch(void** save, void* load);

#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.hidden matryoshka_simt_switch
.globl matryoshka_simt_switch
.type matryoshka_simt_switch, @function
matryoshka_simt_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size matryoshka_simt_switch, .-matryoshka_simt_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.hidden matryoshka_simt_switch
.globl matryoshka_simt_switch
.type matryoshka_simt_switch, %function
matryoshka_simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size matryoshka_simt_switch, .-matryoshka_simt_switch
)");
#else
#error "The SIMT emulator switches stacks on x86-64 and aarch64 only"
#endif

namespace matryoshka::simt {

Fiber host_fiber() {
  Fiber fiber;
#if SIMT_TSAN
  fiber.tsan = __tsan_get_current_fiber();
#endif
#if SIMT_ASAN
  pthread_attr_t attributes;
  void* bottom = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &bottom, &fiber.stack_bytes);
  pthread_attr_destroy(&attributes);
  fiber.stack = static_cast<char*>(bottom);
#endif
  return fiber;
}

Fiber make_fiber(char* stack, size_t stack_bytes, void (*entry)()) {
  Fiber fiber;
  fiber.stack = stack;
  fiber.stack_bytes = stack_bytes;
#if defined(__x86_64__)
  // `ret` pops entry from a 16-byte aligned slot, as a call would have left it: rsp is 16n + 8 at the first instruction.
  void** slot = reinterpret_cast<void**>(stack + stack_bytes) - 2;
  *slot = reinterpret_cast<void*>(entry);
  fiber.stack_pointer = slot - 6;
#else
  char* frame = stack + stack_bytes - 160;
  std::memset(frame, 0, 160);
  std::memcpy(frame + 88, &entry, sizeof entry);  // x30
  fiber.stack_pointer = frame;
#endif
#if SIMT_TSAN
  fiber.tsan = __tsan_create_fiber(0);
#endif
  return fiber;
}

void switch_fiber(Fiber& from, Fiber& to) {
#if SIMT_TSAN
  __tsan_switch_to_fiber(to.tsan, 1);
#endif
#if SIMT_ASAN
  __sanitizer_start_switch_fiber(&from.asan_fake_stack, to.stack, to.stack_bytes);
#endif
  matryoshka_simt_switch(&from.stack_pointer, to.stack_pointer);
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(from.asan_fake_stack, nullptr, nullptr);
#endif
}

void fiber_started() {
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void forget([[maybe_unused]] Fiber& fiber) {
#if SIMT_TSAN
  __tsan_destroy_fiber(fiber.tsan);
#endif
  asan_unpoison(fiber.stack, fiber.stack_bytes);
}

char* allocate_stack(size_t bytes) {
  const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, bytes + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, guard, PROT_NONE);
  return static_cast<char*>(memory) + guard;
}

void free_stack(char* stack, size_t bytes) {
  const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  munmap(stack - guard, bytes + guard);
}

}  // namespace matryoshka::simt
