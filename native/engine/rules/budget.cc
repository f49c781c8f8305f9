// At stake for document i: Σ_j P(i and j change places) · |gain_i - gain_j| · |discount_i - discount_j| over the rest of its
// list, stopped ones too: LambdaRank's change of nDCG for a swap (Burges 2010) under the current ranking. lib/exit/budget.ts
// does the same, operation for operation, in double.
#include "engine/rules/budget.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/rules/exp.h"

namespace matryoshka {
namespace {

/// A document's gain is taken to be e^(a/2), as a share of the list's.
constexpr double kSharpness = 0.5;

/// 1 / (1 + e^(2 · apart)) with e^x as (1 + x / 32)^32; `apart`: distance of two places over the sum of their half-widths.
double swap_probability(double apart) {
  double odds = 1 + apart / 16;
  for (int i = 0; i < 5; ++i) odds *= odds;
  return 1 / (1 + odds);
}

/// [last - first] shares of the list's gain; 0 for a place that is not finite.
std::vector<double> gains(const double* place, int size) {
  double top = -std::numeric_limits<double>::infinity();
  for (int i = 0; i < size; ++i)
    if (std::isfinite(place[i])) top = std::max(top, place[i]);
  std::vector<double> gain(size);
  double total = 0;
  for (int i = 0; i < size; ++i) {
    gain[i] = std::isfinite(place[i]) ? exp_non_positive(kSharpness * (place[i] - top)) : 0;
    total += gain[i];
  }
  for (double& each : gain) each /= total;
  return gain;
}

/// [last - first] discounts by the current ranking, ties in the list's order; 0 behind rank k, and for a place that is not finite.
std::vector<double> discounts_by_rank(const std::vector<float>& discounts, const double* place, int size) {
  std::vector<double> out(size, 0);
  for (int i = 0; i < size; ++i) {
    if (!std::isfinite(place[i])) continue;
    size_t ahead = 0;
    for (int j = 0; j < size; ++j) ahead += place[j] > place[i] || (place[j] == place[i] && j < i);
    if (ahead < discounts.size()) out[i] = discounts[ahead];
  }
  return out;
}

}  // namespace

void decide_budget(const ExitRule& rule, const Standings& standings, const int32_t* running, int count, int first, int last, uint8_t* stop) {
  const int size = last - first;
  const double* const place = standings.place.data() + first;
  const double* const width = standings.width.data() + first;
  const std::vector<double> gain = gains(place, size), discount = discounts_by_rank(rule.discounts, place, size);
  for (int r = 0; r < count; ++r) {
    const int i = running[r] - first;
    stop[r] = false;
    if (!std::isfinite(place[i]) || !std::isfinite(width[i])) continue;
    double stake = 0;
    for (int j = 0; j < size; ++j) {
      if (discount[i] == discount[j] || !std::isfinite(place[j])) continue;
      const double apart = std::fabs(place[i] - place[j]) / (width[i] + width[j]);
      stake += swap_probability(apart) * std::fabs(gain[i] - gain[j]) * std::fabs(discount[i] - discount[j]);
    }
    stop[r] = stake < rule.stake;
  }
}

}  // namespace matryoshka
