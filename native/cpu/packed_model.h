// A checkpoint's weights in the layout of the chosen kernels, packed once.
#pragma once

#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/cpu_backend.h"
#include "cpu/kernels/kernels.h"
#include "cpu/thread_pool.h"
#include "engine/compensation.h"
#include "model/checkpoint.h"

namespace matryoshka::cpu {

struct Norm {
  std::vector<float> weight, bias;
};

/// Embedding tables stay in the checkpoint's mapping; everything else is copied. f32 panels keep the stored precision
/// (f16 and bf16 weights are exact in f32, so widening them late costs half the memory and no accuracy).
class PackedModel {
 public:
  PackedModel(const Checkpoint& checkpoint, const Kernels& kernels, Dtype dtype, ThreadPool& pool);

  struct Layer {
    Panels linear[kProjections];
    Norm norm[2];
  };
  struct Head {
    Panels dense;  ///< n == 0 where there is none
    std::vector<float> weight;
    std::vector<float> query;  ///< [H × H], or empty
    float bias = 0;
    float carry = 0;  ///< HeadSource's
  };
  std::vector<Layer> layers;
  std::vector<Head> heads;
  std::vector<Compensation> compensations;
  Norm embedding_norm;

 private:
  AlignedBuffer arena_;
};

}  // namespace matryoshka::cpu
