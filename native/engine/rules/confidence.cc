#include "engine/rules/confidence.h"

#include <cmath>

#include "engine/rules/exp.h"

namespace matryoshka {
namespace {

/// The largest softmax weight of the list, 1 / Σ exp(a - max a), over what is finite; 0 where nothing is.
double list_confidence(const std::vector<float>& estimates) {
  const double sum = ExpTerms(estimates.data(), estimates.size(), 1).sum;
  return sum > 0 ? 1 / sum : 0;
}

}  // namespace

void decide_confidence(const ExitRule& rule, double sure, const ListAtExit& list, uint8_t* stop) {
  const double shared = rule.over_list ? list_confidence(list.estimate) : 0;
  for (size_t i = 0; i < list.estimate.size(); ++i) {
    const double a = list.estimate[i];
    stop[i] = std::isfinite(a) && (list.easy[i] || (rule.over_list ? shared : std::fabs(a)) > sure);
  }
}

}  // namespace matryoshka
