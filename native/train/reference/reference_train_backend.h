// The training pass as plain loops in double over one tile: the oracle of every gradient.
#pragma once

#include <functional>
#include <vector>

#include "engine/batch.h"
#include "train/parameters.h"

namespace matryoshka::train {

/// What a value becomes where an implementation in less precision stores it between two ops; the identity by default.
using Rounding = double (*)(double);

class ReferenceTrainBackend {
 public:
  explicit ReferenceTrainBackend(const Layout& layout, Rounding rounding = [](double x) { return x; }) : layout_(layout), rounding_(rounding) {}

  /// Returns logits [n × exits]; remembers what backward needs. weights [layout.size].
  std::vector<double> forward(const std::vector<double>& weights, const TokenBatch& batch, const std::vector<uint8_t>& skipped);
  /// Gradients [layout.size] of Σ logits ∘ logit_gradients for the last forward.
  std::vector<double> backward(const std::vector<double>& logit_gradients);

 private:
  class Tape;
  const Layout& layout_;
  Rounding rounding_;
  std::shared_ptr<Tape> tape_;
};

}  // namespace matryoshka::train
