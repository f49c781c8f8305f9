// What a head of either kind does with one scoring row, forth and back, a query-conditioned one through QueryHeads; and the
// share of the exit before that a logit carries.
#pragma once

#include <vector>

#include "train/query_heads.h"

namespace matryoshka::train {

/// w · row + b, of HeadKind::linear.
double linear_logit(const Layout& layout, const float* weights, int exit, const float* row);

/// Adds the gradient of a sequence's scoring row, given its logit's.
void add_row_gradient(const Layout& layout, const float* weights, const TokenBatch& batch, const QueryHeads& query_heads, int exit, int sequence,
                      double logit_gradient, float* row);

/// Adds the gradients of an exit's own weights, given those of all logits [n × exits].
void add_head_gradients(const Layout& layout, const TokenBatch& batch, const QueryHeads& query_heads, const ExitRows& rows,
                        const std::vector<double>& logit_gradients, int exit, float* gradients);

/// Logits [n × exits] from what the heads say, in place: each takes its share of the one before (HeadSource).
void carry_forth(const Layout& layout, std::vector<double>& logits);

/// Gradients of what the heads say, given those of the logits, in place: the transpose.
void carry_back(const Layout& layout, std::vector<double>& gradients);

}  // namespace matryoshka::train
