// Softmax in double, terms added in document order, so that a replay adds the same numbers.
#include "engine/rules/confidence.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace matryoshka {
namespace {

/// max(sigmoid(a), 1 - sigmoid(a)): the softmax over {relevant, not}.
double pair_confidence(double a) { return 1 / (1 + std::exp(-std::fabs(a))); }

/// The largest softmax weight of the list; 0 where nothing is finite.
double list_confidence(const std::vector<float>& estimates) {
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const float a : estimates)
    if (std::isfinite(a)) top = std::max(top, static_cast<double>(a));
  for (const float a : estimates)
    if (std::isfinite(a)) sum += std::exp(a - top);
  return sum > 0 ? 1 / sum : 0;
}

}  // namespace

void decide_confidence(const ExitRule& rule, int exit, const ListAtExit& list, uint8_t* stop) {
  const double shared = rule.over_list ? list_confidence(list.estimate) : 0;
  for (size_t i = 0; i < list.estimate.size(); ++i) {
    const double a = list.estimate[i];
    if (!std::isfinite(a)) continue;
    const double confidence = rule.over_list ? shared : pair_confidence(a);
    stop[i] = confidence > rule.threshold[exit] || (!list.difficulty.empty() && list.difficulty[i] < rule.easy);
  }
}

}  // namespace matryoshka
