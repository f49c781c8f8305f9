// The kernels as data, so that the host side neither knows who compiled them nor names a template.
#pragma once

#include <cstddef>

namespace matryoshka::cuda {

/// A kernel takes one struct by value. `entry` is the runtime's handle under nvcc, a void (*)(const void* args) under
/// the emulator.
struct Kernel {
  const char* name;
  const void* entry;
  int threads;       ///< a block
  int shared_bytes;  ///< a block
  bool one_block;    ///< else as many blocks as the device runs at once
};

constexpr int kActivations = 5;                 ///< kernels/activation.cuh
constexpr int kHeadDims[] = {32, 64, 128};      ///< smaller ones are padded
constexpr int kRowWidths[] = {1024, 2048};      ///< the widest row that a warp holds

/// What there is for each type of element.
struct ElementKernels {
  Kernel gemm[kActivations];
  Kernel attention[3];                 ///< by kHeadDims
  Kernel embed[2], residual[2], head[2];  ///< by kRowWidths
  int query_block;                     ///< rows of queries that attention takes at a time
};

constexpr int kTrainedActivations = 3;  ///< in the order of model/architecture.h

/// Of training, in bf16.
struct TrainingKernels {
  Kernel forward, input_gradient, weight_gradient;      ///< products
  Kernel query_gradient[3], key_gradient[3];            ///< of attention, by kHeadDims
  Kernel norm_forward[2], norm_backward[2];             ///< by kRowWidths
  Kernel activate[kTrainedActivations], activate_backward[kTrainedActivations];
  Kernel embedding_sum, gather_rows, add_rows, sum_elements, sum_floats, narrow;
};

struct KernelTable {
  ElementKernels f32, bf16, f16;
  Kernel gather, decide, compact, map_rows;
  TrainingKernels training;
};

}  // namespace matryoshka::cuda
