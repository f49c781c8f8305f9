// Who a thread is and how threads meet: the part of the instruction layer that every kernel needs.
//
// Each header of this folder has two halves with the same signatures, PTX for nvcc and the SIMT emulator for any other
// compiler; kernels are written once over them and contain neither. Grids and blocks have one dimension, warps are
// whole, and all lanes of a warp reach every collective.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)

#define DEVICE __device__ __forceinline__
#define KERNEL(threads, blocks_per_sm) __global__ void __launch_bounds__(threads, blocks_per_sm)
#define UNROLL _Pragma("unroll")
#define UNROLL_BY_2 _Pragma("unroll 2")  // where more would only cost registers for addresses

namespace matryoshka::cuda {

DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
DEVICE int block_index() { return static_cast<int>(blockIdx.x); }
DEVICE int block_count() { return static_cast<int>(gridDim.x); }
DEVICE char* shared_memory() {
  extern __shared__ __align__(128) char dynamic_shared_memory[];
  return dynamic_shared_memory;
}

DEVICE void sync_block() { __syncthreads(); }
DEVICE void sync_warp() { __syncwarp(); }
DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
DEVICE int shuffle_up(int value, int distance) { return __shfl_up_sync(0xffffffffu, value, distance); }

}  // namespace matryoshka::cuda

#else

#include "simt/block.h"
#include "simt/warp.h"

#define DEVICE inline
#define KERNEL(threads, blocks_per_sm) inline void
#define UNROLL
#define UNROLL_BY_2

namespace matryoshka::cuda {

inline int thread_index() { return simt::position.thread; }
inline int block_index() { return simt::position.block; }
inline int block_count() { return simt::position.blocks; }
inline char* shared_memory() { return simt::position.shared; }

using simt::shuffle_up;
using simt::shuffle_xor;
using simt::sync_block;
using simt::sync_warp;

}  // namespace matryoshka::cuda

#endif
