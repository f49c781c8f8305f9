// exp() with every bit defined, term order fixed: a replay elsewhere (lib/exit/exp.ts) must decide the same, and
// libraries differ in the last place.
#include "engine/rules/confidence.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace matryoshka {
namespace {

/// e^x for x <= 0: x = n ln 2 + r, Taylor polynomial of degree 13 in r by Horner's rule, scaled by 2^n; 0 below -700.
double exp_non_positive(double x) {
  if (!(x >= -700)) return 0;
  const double n = std::floor(x * 1.4426950408889634 + 0.5);
  const double r = x - n * 0.6931471803691238 - n * 1.9082149292705877e-10;
  double p = 1;
  for (int i = 13; i >= 1; --i) p = 1 + (p * r) / i;
  return std::ldexp(p, static_cast<int>(n));
}

/// The largest softmax weight of the list, 1 / Σ exp(a - max a), over what is finite; 0 where nothing is.
double list_confidence(const std::vector<float>& estimates) {
  float top = -std::numeric_limits<float>::infinity();
  for (const float a : estimates)
    if (std::isfinite(a)) top = std::max(top, a);
  double sum = 0;
  for (const float a : estimates)
    if (std::isfinite(a)) sum += exp_non_positive(static_cast<double>(a) - static_cast<double>(top));
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
