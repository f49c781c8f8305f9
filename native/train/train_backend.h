// The way forth and back of a whole batch, whoever computes it: what the trainer asks of a device.
#pragma once

#include <string>
#include <vector>

#include "cpu/thread_pool.h"
#include "engine/batch.h"
#include "train/parameters.h"

namespace matryoshka::train {

class TrainBackend {
 public:
  virtual ~TrainBackend() = default;

  /// Takes them over; `weights` [layout.size] must stay as it is until the next call or the end.
  virtual void set_weights(const float* weights) = 0;
  /// Logits [n × exits] of a valid batch, which must outlive backward. Throws ERR_OUT_OF_MEMORY.
  virtual const std::vector<double>& forward(const TokenBatch& batch, const std::vector<uint8_t>& skipped) = 0;
  /// Adds the gradients of Σ logits ∘ logit_gradients, for the last forward, to gradients [layout.size].
  virtual void backward(const std::vector<double>& logit_gradients, float* gradients) = 0;
  /// The same of the heads alone, which is as good as free: they end at the scoring rows.
  virtual void backward_heads(const std::vector<double>& logit_gradients, float* gradients) = 0;

  /// For what the trainer does itself between two batches.
  virtual cpu::ThreadPool& pool() = 0;
  /// "train cpu bf16 avx512 2 threads"
  virtual std::string describe() const = 0;
};

}  // namespace matryoshka::train
