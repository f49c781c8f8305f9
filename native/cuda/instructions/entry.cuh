// A kernel's address for the table: ENTRY(Args, kernel).
#pragma once

#if defined(__CUDACC__)

#define ENTRY(Args, ...) reinterpret_cast<const void*>(static_cast<void (*)(Args)>(__VA_ARGS__))

#else

namespace matryoshka::cuda {

template <class Args, void (*kKernel)(Args)>
void enter(const void* args) {
  kKernel(*static_cast<const Args*>(args));
}

}  // namespace matryoshka::cuda

#define ENTRY(Args, ...) reinterpret_cast<const void*>(&enter<Args, __VA_ARGS__>)

#endif
