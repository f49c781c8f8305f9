// AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019), on the whole flat array of weights.
#pragma once

#include <vector>

#include "cpu/thread_pool.h"
#include "train/parameters.h"

namespace matryoshka::train {

struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0.01;  ///< of matrices only
  double clip = 1;             ///< largest norm of the gradient
};

struct LearningRates {
  double encoder = 0, heads = 0;
};

class AdamW {
 public:
  AdamW(const Layout& layout, const AdamOptions& options);

  /// Norm of the gradient over all parameters; sums in double in one order, whatever the pool.
  double norm(const float* gradients, cpu::ThreadPool& pool) const;
  /// One update by gradients of that norm, clipped.
  void update(float* weights, const float* gradients, double norm, const LearningRates& rates, cpu::ThreadPool& pool);

  std::vector<float> first, second;  ///< moments, [layout.size]
  uint64_t step = 0;                 ///< updates so far

 private:
  /// Part of one parameter: what a task works on.
  struct Slice {
    size_t begin, end;
    bool decays, fast;
  };
  std::vector<Slice> slices_;
  const AdamOptions options_;
};

}  // namespace matryoshka::train
