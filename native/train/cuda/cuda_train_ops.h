// The ops of a whole turn as launches. They are written down as data and run at once: a turn's sizes rarely come again.
#pragma once

#include "cuda/launch_sequence.h"
#include "cuda/stream.h"
#include "train/cuda/turn.h"
#include "train/pass.h"

namespace matryoshka::train {

/// What a turn's ops work on, all of it in device memory.
struct DeviceTurn {
  const Layout* layout;
  const cuda::KernelTable* kernels;
  const float* weights;      ///< of the encoder, as in Layout
  Element16* elements;       ///< the same, as products take them
  float* gradients;          ///< likewise
  const TurnInput* input;
  const TurnActivations* memory;
  std::vector<uint8_t> skipped;
  int tokens = 0, sequences = 0;
  int head_dim_index = 0, row_width_index = 0;
};

class CudaTrainOps final : public TrainOps {
 public:
  CudaTrainOps(const DeviceTurn& turn, cuda::Stream& stream, cuda::LaunchSequence& launches);

  void embed() override;
  void linear(int layer, Projection which) override;
  void gather() override;
  void attention(int layer) override;
  void residual(int layer, Site site) override;
  void activate(int layer) override;
  void head(int exit) override;  ///< takes the scoring rows; logits are the host's business
  void begin_backward() override;
  void head_backward(int exit) override;
  void activate_backward(int layer) override;
  void residual_backward(int layer, Site site) override;
  void attention_backward(int layer) override;
  void scatter() override;
  void linear_backward(int layer, Projection which) override;
  void embed_backward() override;

 private:
  bool is_last(int layer) const { return layer + 1 == a_.layers; }
  int rows(int layer) const { return is_last(layer) ? turn_.sequences : turn_.tokens; }
  float* hidden(int layer) const { return is_last(layer) ? m_.scoring : m_.hidden; }
  float* hidden_gradient(int layer) const { return is_last(layer) ? m_.scoring_gradient : m_.hidden_gradient; }
  /// Written by the last layer before it that is not skipped.
  const Element16* input(int layer) const;
  const Element16* input_of(int layer, Projection which) const;
  Element16* output_gradient(Projection which) const;
  template <class Args>
  Args attention_args(int layer) const;
  template <class Args>
  void launch(const cuda::Kernel& kernel, const Args& args) {
    launches_.add(kernel, args);
  }
  void norm_forward(float* hidden, const float* branch, Element16* hat, float* inverse, Element16* output, const NormAt& norm, int rows);
  void norm_backward(float* gradient, Element16* branch, const Element16* hat, const float* inverse, const NormAt& norm, int rows);
  /// gradients[at …] = column sums over rows; `times` as in SumRowsArgs.
  void sum_columns(const cuda::Kernel& kernel, const void* in, const Element16* times, int rows, int width, size_t at);
  void table_gradient(const DeviceTableRows& rows, size_t table);

  const DeviceTurn& turn_;
  const Layout& layout_;
  const Architecture& a_;
  const TurnActivations& m_;
  const cuda::TrainingKernels& kernels_;
  cuda::Stream& stream_;
  cuda::LaunchSequence& launches_;
};

}  // namespace matryoshka::train
