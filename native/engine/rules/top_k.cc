// Bounds are estimate ± scale · half-width, with widths that do not depend on who has stopped: whether a document stops
// depends on the others only through the k-th largest lower bound, which is what the certificate's critical scale
// assumes (docs/certificates.md).
#include "engine/rules/top_k.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace matryoshka {

void decide_top_k(const ExitRule& rule, const ListAtExit& list, uint8_t* stop) {
  const size_t size = list.estimate.size();
  if (size <= static_cast<size_t>(rule.k)) return;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> low(size), high(size);
  for (size_t i = 0; i < size; ++i) {
    const float a = list.estimate[i];
    const float half = rule.scale * list.width[i];
    const bool finite = std::isfinite(a) && std::isfinite(half);
    low[i] = finite ? a - half : -kInfinity;
    high[i] = finite ? a + half : kInfinity;
  }
  std::nth_element(low.begin(), low.begin() + (rule.k - 1), low.end(), std::greater<float>());
  const float bar = low[rule.k - 1];
  for (size_t i = 0; i < size; ++i) stop[i] = high[i] < bar;
}

}  // namespace matryoshka
