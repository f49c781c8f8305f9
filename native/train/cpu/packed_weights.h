// The weights of every linear as panels for both ways, packed anew after each update.
#pragma once

#include <vector>

#include "cpu/cpu_features.h"
#include "cpu/thread_pool.h"
#include "train/cpu/kernels/kernels.h"
#include "train/cpu/arena.h"
#include "train/parameters.h"

namespace matryoshka::train {

class PackedWeights {
 public:
  PackedWeights(const Layout& layout, const cpu::Kernels& kernels, const TrainKernels& train_kernels, cpu::Element element, int threads);

  /// weights [layout.size], read until the call returns.
  void pack(const float* weights, cpu::ThreadPool& pool);
  /// y = x Wᵀ + b
  const cpu::Panels& forward(int layer, Projection which) const { return panels_[index(layer, which)].forward; }
  /// dx = dy W, with no bias
  const cpu::Panels& backward(int layer, Projection which) const { return panels_[index(layer, which)].backward; }

 private:
  struct Linear {
    cpu::Panels forward, backward;
    float *forward_data = nullptr, *backward_data = nullptr, *bias = nullptr;
  };
  static size_t index(int layer, Projection which) { return static_cast<size_t>(layer) * kProjections + static_cast<int>(which); }
  void pack_forward(const float* weights, const LinearAt& at, Linear& linear, int panel, float* scratch) const;
  void pack_backward(const float* weights, const LinearAt& at, Linear& linear, int panel) const;

  const Layout& layout_;
  const cpu::Kernels& kernels_;
  const TrainKernels& train_kernels_;
  const bool pairs_;
  std::vector<Linear> panels_;
  std::vector<float*> scratch_;  // by worker
  std::vector<float> no_bias_;
  Arena arena_;
};

}  // namespace matryoshka::train
