#include "engine/rules/standings.h"

#include <cmath>

namespace matryoshka {

void Standings::move(int list, const int32_t* running, const ListAtExit& now) {
  double sum = 0;
  int count = 0;
  for (const float change : now.change) {
    if (!std::isfinite(change)) continue;
    sum += static_cast<double>(change);
    ++count;
  }
  if (count > 0) level[list] += sum / count;
  for (size_t i = 0; i < now.estimate.size(); ++i) {
    const float a = now.estimate[i];
    place[running[i]] = std::isfinite(a) ? static_cast<double>(a) - level[list] : std::numeric_limits<double>::quiet_NaN();
    width[running[i]] = std::isfinite(now.width[i]) ? now.width[i] : std::numeric_limits<double>::infinity();
  }
}

}  // namespace matryoshka
