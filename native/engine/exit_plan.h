// Which exits score, and how deep a batch runs: what a request asks of the forward pass.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/exit_rule.h"

namespace matryoshka {

struct ExitPlan {
  int depth = 0;                ///< blocks to run, 1-based; one of the checkpoint's exit layers
  std::vector<uint8_t> report;  ///< [exits]: 1 where every sequence is to be scored; the exit at `depth` is 1
  ExitRule rule;                ///< who stops earlier
  bool states = false;          ///< whether the scoring rows are given back too
  /// Past it, the pass ends with a peek at the next layer that scores.
  std::optional<std::chrono::steady_clock::time_point> deadline;
};

}  // namespace matryoshka
