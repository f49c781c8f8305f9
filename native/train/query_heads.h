// Heads conditioned on the query, forth and back, for a whole turn: they join rows of different sequences.
//
// With q and x the scoring rows of a query and of one of its documents at an exit:
//   v = w + M q,  logit = v · x + b;  with d = ∂loss/∂logit and g = Σ d x over the query's documents:
//   ∂x = d v,  ∂w = g,  ∂M = g qᵀ,  ∂q = Mᵀ g,  ∂b = Σ d
#pragma once

#include <vector>

#include "cpu/thread_pool.h"
#include "engine/batch.h"
#include "train/parameters.h"

namespace matryoshka::train {

/// The scoring rows of every sequence at every exit.
struct ExitRows {
  const float* data;  ///< [exits × sequences × H]
  int sequences, hidden;

  const float* at(int exit, int sequence) const { return data + (static_cast<size_t>(exit) * sequences + sequence) * hidden; }
};

class QueryHeads {
 public:
  /// Fills the documents' logits [n × exits] from the scoring rows.
  void forward(const Layout& layout, const float* weights, const TokenBatch& batch, const ExitRows& rows, cpu::ThreadPool& pool, std::vector<double>& logits);
  /// What the two below give, from the logits' gradients [n × exits].
  void backward(const Layout& layout, const float* weights, const TokenBatch& batch, const ExitRows& rows, cpu::ThreadPool& pool,
                const std::vector<double>& logit_gradients);

  /// Adds the gradient of a sequence's scoring row, a query's or a document's.
  void add_row_gradient(const TokenBatch& batch, int exit, int sequence, double logit_gradient, float* row) const;
  /// Adds the gradients of an exit's w and M.
  void add_weight_gradients(const Layout& layout, const TokenBatch& batch, const ExitRows& rows, int exit, float* gradients) const;

 private:
  size_t at(int query, int exit) const { return (static_cast<size_t>(query) * exits_ + exit) * hidden_; }

  int exits_ = 0, hidden_ = 0;
  std::vector<float> vectors_, sums_, query_gradients_;  ///< [queries × exits × H]: v, g, ∂q
};

}  // namespace matryoshka::train
