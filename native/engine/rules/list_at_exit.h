// What a rule sees of one list at one exit: its documents still running, in order.
#pragma once

#include <cstdint>
#include <vector>

namespace matryoshka {

struct ListAtExit {
  std::vector<float> estimate;  ///< of the final score
  std::vector<float> change;    ///< of the estimate, since the rule's exit before; 0 at the first
  std::vector<float> width;     ///< half-width of its interval per unit of scale
  std::vector<uint8_t> easy;    ///< 1 where the first stage had settled it

  void resize(int size) {
    estimate.resize(size);
    change.resize(size);
    width.resize(size);
    easy.resize(size);
  }
};

}  // namespace matryoshka
