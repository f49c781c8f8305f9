// Which exits score, and how deep a batch runs: what a request asks of the forward pass.
#pragma once

#include <cstdint>
#include <vector>

namespace matryoshka {

struct ExitPlan {
  int depth = 0;                ///< blocks to run, 1-based; one of the checkpoint's exit layers
  std::vector<uint8_t> report;  ///< [exits]: 1 where every sequence is to be scored; the exit at `depth` is 1
};

}  // namespace matryoshka
