// cp.async: 16-byte copies from global to shared memory that run beside the arithmetic (sm_80; plain copies before).
#pragma once

#include "cuda/instructions/memory.cuh"

#if defined(__CUDACC__)

namespace matryoshka::cuda {

/// `from` is not read where `valid` is false: zeroes arrive.
DEVICE void cp_async16(void* to, const void* from, bool valid) {
#if __CUDA_ARCH__ >= 800
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(valid ? 16 : 0) : "memory");
#else
  *static_cast<uint4*>(to) = valid ? *static_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
#endif
}
DEVICE void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// Until at most kGroups of this thread's groups are in flight. Other threads' copies need a barrier on top.
template <int kGroups>
DEVICE void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
#endif
}

}  // namespace matryoshka::cuda

#else

#include "simt/copies.h"

namespace matryoshka::cuda {
using simt::cp_async16;
using simt::cp_async_commit;
using simt::cp_async_wait;
}  // namespace matryoshka::cuda

#endif
