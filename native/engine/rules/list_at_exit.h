// What a rule sees of one list at one exit: its documents still running, in order.
#pragma once

#include <vector>

namespace matryoshka {

struct ListAtExit {
  std::vector<float> estimate;    ///< of the final score
  std::vector<float> width;       ///< half-width of its interval per unit of scale
  std::vector<float> difficulty;

  void resize(int size) {
    estimate.resize(size);
    width.resize(size);
    difficulty.resize(size);
  }
};

}  // namespace matryoshka
