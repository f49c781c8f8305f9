// One model in training: a step forth, back and down the gradient, whatever the size of its batch.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "train/adamw.h"
#include "train/losses.h"
#include "train/parameters.h"
#include "train/train_backend.h"

namespace matryoshka::train {

struct TrainerOptions {
  InitialOptions initial;
  AdamOptions adam;
  int turn_tokens = 8192;    ///< lists go through the model in turns of at most so many tokens, queries aside; a longer one alone
  double layer_dropout = 0;  ///< layer l of L is skipped with layer_dropout (2^(l / (L - 1)) - 1) (LayerSkip, 2024)
};

struct StepResult {
  LossValue loss;
  double gradient_norm = 0;  ///< before clipping
  bool applied = false;      ///< false: the gradient was not finite, nothing has changed
  uint64_t step = 0;
};

/// Throws what the backend's maker throws. The layout outlives the backend.
using MakeTrainBackend = std::function<std::unique_ptr<TrainBackend>(const Layout&)>;

class Trainer {
 public:
  /// Throws what read_initial_model and `make` throw, ERR_INVALID_ARGUMENT for options out of range, std::bad_alloc.
  Trainer(const std::string& directory, const TrainerOptions& options, const MakeTrainBackend& make);

  /// One update. A rate of 0 leaves the encoder alone: nothing goes back through it, and the gradient is that of the heads.
  /// Throws ERR_INVALID_ARGUMENT, ERR_INPUT_TOO_LONG, ERR_OUT_OF_MEMORY, having changed nothing.
  StepResult step(const TokenBatch& batch, const Targets& targets, const LossConfig& loss, const LearningRates& rates);
  /// Logits [n × exits]. Throws as step does.
  std::vector<float> score(const TokenBatch& batch);

  void save(const std::string& path);
  void load(const std::string& path);
  void export_to(const std::string& directory) const;

  const Layout& layout() const { return model_.layout; }
  const std::vector<float>& weights() const { return model_.weights; }
  std::string describe() const { return backend_->describe(); }

 private:
  /// Cuts the batch into turns of whole lists and calls body(turn, its batch, first list, last list).
  template <class Body>
  void each_turn(const TokenBatch& batch, const Body& body) const;
  TokenBatch with_queries_where_heads_want_them(const TokenBatch& batch) const;
  /// Of the batch's documents, [n × exits].
  std::vector<double> logits(const TokenBatch& batch, const std::vector<uint8_t>& skipped);
  std::vector<uint8_t> skipped(uint64_t turn) const;

  const TrainerOptions options_;
  InitialModel model_;
  uint64_t seed_;
  AdamW adam_;
  std::unique_ptr<TrainBackend> backend_;
  std::vector<float> gradients_;
};

}  // namespace matryoshka::train
