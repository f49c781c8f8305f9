#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "engine/queries.h"
#include "model/error.h"
#include "train/heads.h"
#include "train/random.h"
#include "train/state_file.h"

namespace matryoshka::train {
namespace {

void require(bool good, const std::string& expected) {
  if (!good) throw Error("ERR_INVALID_ARGUMENT", "Expected " + expected);
}

/// Written so that NaN is refused too.
const TrainerOptions& checked(const TrainerOptions& o) {
  require(o.turn_tokens >= 1, "turnTokens of at least 1");
  require(o.layer_dropout >= 0 && o.layer_dropout < 1, "layerDropout in [0, 1)");
  require(o.adam.beta1 >= 0 && o.adam.beta1 < 1 && o.adam.beta2 >= 0 && o.adam.beta2 < 1, "beta1 and beta2 in [0, 1)");
  require(o.adam.epsilon > 0 && std::isfinite(o.adam.epsilon), "a finite epsilon above 0");
  require(o.adam.weight_decay >= 0 && std::isfinite(o.adam.weight_decay), "a finite weightDecay of at least 0");
  require(o.adam.clip > 0, "a clip above 0");
  return o;
}

/// Lists [first, last) as a batch of their own.
TokenBatch slice(const TokenBatch& batch, int first, int last) {
  TokenBatch out;
  const int sequence = batch.list_offsets[first], end = batch.list_offsets[last];
  const int token = batch.cu_seqlens[sequence], last_token = batch.cu_seqlens[end];
  out.token_ids.assign(batch.token_ids.begin() + token, batch.token_ids.begin() + last_token);
  if (!batch.type_ids.empty()) out.type_ids.assign(batch.type_ids.begin() + token, batch.type_ids.begin() + last_token);
  for (int s = sequence; s <= end; ++s) out.cu_seqlens.push_back(batch.cu_seqlens[s] - token);
  for (int l = first; l <= last; ++l) out.list_offsets.push_back(batch.list_offsets[l] - sequence);
  return out;
}

}  // namespace

Trainer::Trainer(const std::string& directory, const TrainerOptions& options, const MakeTrainBackend& make)
    : options_(checked(options)),
      model_(read_initial_model(directory, options.initial)),
      seed_(options.initial.seed),
      adam_(model_.layout, options.adam),
      backend_(make(model_.layout)),
      gradients_(model_.layout.size) {
  backend_->set_weights(model_.weights.data());
}

template <class Body>
void Trainer::each_turn(const TokenBatch& batch, const Body& body) const {
  uint64_t turn = 0;
  const auto tokens_before = [&](int list) { return batch.cu_seqlens[batch.list_offsets[list]]; };
  for (int first = 0, last; first < batch.lists(); first = last) {
    for (last = first + 1; last < batch.lists() && tokens_before(last + 1) - tokens_before(first) <= options_.turn_tokens;) ++last;
    body(turn++, slice(batch, first, last), first, last);
  }
}

TokenBatch Trainer::with_queries_where_heads_want_them(const TokenBatch& batch) const {
  return model_.layout.architecture.head == HeadKind::query ? with_queries(batch) : batch;
}

std::vector<double> Trainer::logits(const TokenBatch& batch, const std::vector<uint8_t>& skipped) {
  std::vector<double> out = backend_->forward(batch, skipped);
  out.erase(out.begin(), out.begin() + model_.layout.heads.size() * batch.queries);
  carry_forth(model_.layout, out);
  return out;
}

std::vector<uint8_t> Trainer::skipped(uint64_t turn) const {
  const int layers = model_.layout.architecture.layers;
  std::vector<uint8_t> out(layers);
  for (int l = 0; l < layers; ++l) {
    const double depth = layers > 1 ? static_cast<double>(l) / (layers - 1) : 1;
    out[l] = uniform(seed_, adam_.step, turn, l) < options_.layer_dropout * (std::exp2(depth) - 1);
  }
  return out;
}

StepResult Trainer::step(const TokenBatch& batch, const Targets& targets, const LossConfig& loss, const LearningRates& rates) {
  validate(batch, model_.layout.architecture);
  validate(loss, static_cast<int>(model_.layout.heads.size()));
  validate(targets, loss, batch.sequences());
  require(batch.lists() > 0, "at least one list");
  for (const double rate : {rates.encoder, rates.heads}) require(rate >= 0 && std::isfinite(rate), "finite learning rates of at least 0");
  std::fill(gradients_.begin(), gradients_.end(), 0.f);
  StepResult result;
  std::vector<double> logit_gradients;
  each_turn(batch, [&](uint64_t turn, const TokenBatch& lists, int first, int last) {
    const TokenBatch sequences = with_queries_where_heads_want_them(lists);
    add_losses(loss, targets, batch.list_offsets, first, last, batch.lists(), logits(sequences, skipped(turn)), result.loss, logit_gradients);
    carry_back(model_.layout, logit_gradients);
    logit_gradients.insert(logit_gradients.begin(), model_.layout.heads.size() * sequences.queries, 0.0);
    if (rates.encoder > 0) backend_->backward(logit_gradients, gradients_.data());
    else backend_->backward_heads(logit_gradients, gradients_.data());
  });
  result.gradient_norm = adam_.norm(gradients_.data(), backend_->pool());
  // AdamW squares what is left of the gradient after clipping, in float32.
  constexpr double kLargest = 1e18;
  result.applied = std::isfinite(result.gradient_norm) && std::min(result.gradient_norm, options_.adam.clip) <= kLargest && std::isfinite(result.loss.total);
  if (result.applied) {
    adam_.update(model_.weights.data(), gradients_.data(), result.gradient_norm, rates, backend_->pool());
    backend_->set_weights(model_.weights.data());
  }
  result.step = adam_.step;
  return result;
}

std::vector<float> Trainer::score(const TokenBatch& batch) {
  validate(batch, model_.layout.architecture);
  std::vector<float> scores;
  const std::vector<uint8_t> none(model_.layout.architecture.layers);
  each_turn(batch, [&](uint64_t, const TokenBatch& lists, int, int) {
    const TokenBatch sequences = with_queries_where_heads_want_them(lists);
    const std::vector<double> said = logits(sequences, none);
    scores.insert(scores.end(), said.begin(), said.end());
  });
  return scores;
}

void Trainer::save(const std::string& path) { save_state(path, model_.layout, {model_.weights, adam_, seed_}); }

void Trainer::load(const std::string& path) {
  load_state(path, model_.layout, {model_.weights, adam_, seed_});
  backend_->set_weights(model_.weights.data());
}

void Trainer::export_to(const std::string& directory) const { export_model(directory, model_.layout, model_.weights); }

}  // namespace matryoshka::train
