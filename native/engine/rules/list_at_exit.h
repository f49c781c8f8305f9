// What a rule sees of one list at one exit: its documents still running, in order.
#pragma once

#include <vector>

namespace matryoshka {

struct ListAtExit {
  std::vector<float> estimate;    ///< compensated scores
  std::vector<float> change;      ///< |estimate - estimate at the previous deciding exit|, 0 at the first
  std::vector<float> difficulty;  ///< by document, or empty
};

}  // namespace matryoshka
