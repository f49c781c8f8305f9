// The training pass on the CPU: tiles of whole sequences forth and back, then every parameter's own gradient.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cpu/thread_pool.h"
#include "engine/batch.h"
#include "train/parameters.h"

namespace matryoshka::train {

struct CpuTrainOptions {
  int threads = 1;
  bool bf16 = true;        ///< products of bf16 with f32 sums, where the machine has them; else f32
  std::string isa;         ///< "", or one of cpu_isas()
  bool recompute = false;  ///< keep inputs of layers only
};

/// Results are bitwise the same with any number of threads.
class CpuTrainBackend {
 public:
  /// `layout` must outlive the object. Throws ERR_INVALID_ARGUMENT for an ISA this machine lacks, std::bad_alloc.
  CpuTrainBackend(const Layout& layout, const CpuTrainOptions& options);
  ~CpuTrainBackend();

  /// Packs them; `weights` [layout.size] must stay as it is until the next call or the end.
  void set_weights(const float* weights);
  /// Logits [n × exits] of a valid batch, which must outlive backward. Throws ERR_OUT_OF_MEMORY.
  const std::vector<double>& forward(const TokenBatch& batch, const std::vector<uint8_t>& skipped);
  /// Adds the gradients of Σ logits ∘ logit_gradients, for the last forward, to gradients [layout.size].
  void backward(const std::vector<double>& logit_gradients, float* gradients);

  cpu::ThreadPool& pool();
  /// "train cpu bf16 avx512 2 threads"
  std::string describe() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace matryoshka::train
