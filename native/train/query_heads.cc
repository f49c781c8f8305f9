#include "train/query_heads.h"

namespace matryoshka::train {
namespace {

/// Sums of their own, which vectors can hold; in one order whatever the machine.
constexpr int kLanes = 16;

double dot(const float* a, const float* b, int n) {
  double sums[kLanes] = {};
  const int whole = n / kLanes * kLanes;
  for (int i = 0; i < whole; i += kLanes)
    for (int j = 0; j < kLanes; ++j) sums[j] += static_cast<double>(a[i + j]) * b[i + j];
  double sum = 0;
  for (int i = whole; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  for (const double lane : sums) sum += lane;
  return sum;
}

void add(float factor, const float* x, int n, float* to) {
  for (int i = 0; i < n; ++i) to[i] += factor * x[i];
}

}  // namespace

void QueryHeads::forward(const Layout& layout, const float* weights, const TokenBatch& batch, const ExitRows& rows, cpu::ThreadPool& pool,
                         std::vector<double>& logits) {
  exits_ = static_cast<int>(layout.heads.size());
  hidden_ = layout.architecture.hidden;
  vectors_.resize(at(batch.queries, 0));
  pool.each(exits_, [&](int exit) {
    const Layout::Head& head = layout.heads[exit];
    for (int query = 0; query < batch.queries; ++query)
      for (int o = 0; o < hidden_; ++o)
        vectors_[at(query, exit) + o] =
            static_cast<float>(weights[head.weight + o] + dot(weights + head.query + static_cast<size_t>(o) * hidden_, rows.at(exit, query), hidden_));
    for (int s = batch.queries; s < batch.sequences(); ++s)
      logits[static_cast<size_t>(s) * exits_ + exit] = weights[head.bias] + dot(&vectors_[at(batch.query_of[s], exit)], rows.at(exit, s), hidden_);
  });
}

void QueryHeads::backward(const Layout& layout, const float* weights, const TokenBatch& batch, const ExitRows& rows, cpu::ThreadPool& pool,
                          const std::vector<double>& logit_gradients) {
  sums_.assign(vectors_.size(), 0);
  query_gradients_.assign(vectors_.size(), 0);
  pool.each(exits_, [&](int exit) {
    for (int s = batch.queries; s < batch.sequences(); ++s)
      add(static_cast<float>(logit_gradients[static_cast<size_t>(s) * exits_ + exit]), rows.at(exit, s), hidden_, &sums_[at(batch.query_of[s], exit)]);
    for (int query = 0; query < batch.queries; ++query)
      for (int o = 0; o < hidden_; ++o)
        add(sums_[at(query, exit) + o], weights + layout.heads[exit].query + static_cast<size_t>(o) * hidden_, hidden_, &query_gradients_[at(query, exit)]);
  });
}

void QueryHeads::add_row_gradient(const TokenBatch& batch, int exit, int sequence, double logit_gradient, float* row) const {
  if (sequence < batch.queries) add(1, &query_gradients_[at(sequence, exit)], hidden_, row);
  else add(static_cast<float>(logit_gradient), &vectors_[at(batch.query_of[sequence], exit)], hidden_, row);
}

void QueryHeads::add_weight_gradients(const Layout& layout, const TokenBatch& batch, const ExitRows& rows, int exit, float* gradients) const {
  const Layout::Head& head = layout.heads[exit];
  for (int query = 0; query < batch.queries; ++query) {
    const float* const sum = &sums_[at(query, exit)];
    add(1, sum, hidden_, gradients + head.weight);
    for (int o = 0; o < hidden_; ++o) add(sum[o], rows.at(exit, query), hidden_, gradients + head.query + static_cast<size_t>(o) * hidden_);
  }
}

}  // namespace matryoshka::train
