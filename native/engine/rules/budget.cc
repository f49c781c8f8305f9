// What scoring a document to the end is expected to improve in DCG@k: Σ_j step_j · gain_j · E[(x - distance)+] over the
// documents that it may move past, stopped ones too. lib/exit/budget.ts explains it and does the same, operation for
// operation, in double.
#include "engine/rules/budget.h"

#include <cmath>

#include "engine/rules/exp.h"

namespace matryoshka {
namespace {

constexpr double kScale = 0.625;             ///< of a difference of two residuals, per unit of their half-widths' sum
constexpr double kLn2 = 0.6931471805599453;  ///< a gain doubles with every unit of score

/// E[(x - distance)+] of a logistic x: about scale · ln(1 + e^(-distance / scale)).
double overshoot(double distance, double sum) {
  const double scale = kScale * sum;
  double odds = 1 + distance / scale / 32;
  for (int i = 0; i < 5; ++i) odds *= odds;
  return scale / (odds + 0.443);
}

/// [size] shares of the list's gain; 0 for a place that is not finite.
std::vector<double> gains(const double* place, int size) {
  ExpTerms gain(place, size, kLn2);
  for (double& each : gain.terms) each /= gain.sum;
  return gain.terms;
}

/// [size] ranks from 0, ties in the list's order; `size` for a place that is not finite.
std::vector<int> ranks(const double* place, int size) {
  std::vector<int> rank(size, size);
  for (int i = 0; i < size; ++i) {
    if (!std::isfinite(place[i])) continue;
    rank[i] = 0;
    for (int j = 0; j < size; ++j) rank[i] += place[j] > place[i] || (place[j] == place[i] && j < i);
  }
  return rank;
}

}  // namespace

void decide_budget(const ExitRule& rule, const Standings& standings, const int32_t* running, int count, int first, int last, uint8_t* stop) {
  const int size = last - first, k = static_cast<int>(rule.discounts.size());
  const double* const place = standings.place.data() + first;
  const double* const width = standings.width.data() + first;
  const std::vector<double> gain = gains(place, size);
  const std::vector<int> rank = ranks(place, size);
  const auto discount = [&](int r) { return r < k ? static_cast<double>(rule.discounts[r]) : 0.0; };
  for (int r = 0; r < count; ++r) {
    const int i = running[r] - first;
    if (!std::isfinite(place[i]) || !std::isfinite(width[i])) continue;
    double stake = 0;
    for (int j = 0; j < size; ++j) {
      if (j == i || !std::isfinite(place[j]) || rank[j] > k) continue;
      const int upper = rank[i] > rank[j] ? rank[j] : rank[j] - 1;
      const double step = discount(upper) - discount(upper + 1);
      if (step > 0) stake += step * gain[j] * overshoot(std::fabs(place[i] - place[j]), width[i] + width[j]);
    }
    stop[r] = stake < rule.stake;
  }
}

}  // namespace matryoshka
