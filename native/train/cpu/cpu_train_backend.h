// The training pass on the CPU: tiles of whole sequences forth and back, then every parameter's own gradient.
#pragma once

#include <memory>
#include <string>

#include "train/train_backend.h"

namespace matryoshka::train {

struct CpuTrainOptions {
  int threads = 1;
  bool bf16 = true;        ///< products of bf16 with f32 sums, where the machine has them; else f32
  std::string isa;         ///< "", or one of cpu_isas()
  bool recompute = false;  ///< keep inputs of layers only
};

/// Results are bitwise the same with any number of threads.
class CpuTrainBackend final : public TrainBackend {
 public:
  /// `layout` must outlive the object. Throws ERR_INVALID_ARGUMENT for an ISA this machine lacks, std::bad_alloc.
  CpuTrainBackend(const Layout& layout, const CpuTrainOptions& options);
  ~CpuTrainBackend() override;

  void set_weights(const float* weights) override;
  const std::vector<double>& forward(const TokenBatch& batch, const std::vector<uint8_t>& skipped) override;
  void backward(const std::vector<double>& logit_gradients, float* gradients) override;
  void backward_heads(const std::vector<double>& logit_gradients, float* gradients) override;
  cpu::ThreadPool& pool() override;
  std::string describe() const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace matryoshka::train
