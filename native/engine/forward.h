// The forward pass of a post-norm encoder, written once over Backend.
#pragma once

#include <atomic>

#include "engine/backend.h"

namespace matryoshka {

/// Submits `batch`, to be run to plan.depth with the reported exits scored. Returns the depth that it will have reached: less
/// than planned where a deadline passed, and 0, with nothing submitted, if `cancelled` was seen set at a layer border. Where
/// heads are query-conditioned, `batch` has its queries already (engine/queries.h).
int begin_forward(Backend& backend, const Checkpoint& checkpoint, const TokenBatch& batch, const ExitPlan& plan,
                  const std::atomic<bool>& cancelled);

/// Waits for the oldest batch under way, begun under `plan` and to reach `depth`; `queries` of its sequences are not scored.
void finish_forward(Backend& backend, int queries, const ExitPlan& plan, int depth, Scores& scores);

/// Both, with queries where heads are conditioned on them. Returns false where nothing was submitted.
bool forward(Backend& backend, const Checkpoint& checkpoint, const TokenBatch& batch, const ExitPlan& plan,
             const std::atomic<bool>& cancelled, Scores& scores);

}  // namespace matryoshka
