// The forward pass of a post-norm encoder, written once over Backend.
#pragma once

#include <atomic>

#include "engine/backend.h"

namespace matryoshka {

/// Runs `batch` to plan.depth and scores the reported exits. Returns false if `cancelled` was seen set at a layer border.
bool forward(Backend& backend, const Checkpoint& checkpoint, const TokenBatch& batch, const ExitPlan& plan,
             const std::atomic<bool>& cancelled, Scores& scores);

}  // namespace matryoshka
