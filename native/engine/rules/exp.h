// exp() with every bit defined, term order fixed: a replay elsewhere (lib/exit/exp.ts) must decide the same, and
// libraries differ in the last place.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace matryoshka {

/// e^x for x <= 0: x = n ln 2 + r, Taylor polynomial of degree 13 in r by Horner's rule, scaled by 2^n; 0 below -700.
inline double exp_non_positive(double x) {
  if (!(x >= -700)) return 0;
  const double n = std::floor(x * 1.4426950408889634 + 0.5);
  const double r = x - n * 0.6931471803691238 - n * 1.9082149292705877e-10;
  double p = 1;
  for (int i = 13; i >= 1; --i) p = 1 + (p * r) / i;
  return std::ldexp(p, static_cast<int>(n));
}

/// e^(rate · (x - max x)) of each of `size` values that is finite, 0 for the others, and their sum, added in their order.
struct ExpTerms {
  std::vector<double> terms;
  double sum = 0;

  template <class T>
  ExpTerms(const T* values, size_t size, double rate) : terms(size) {
    double top = -std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < size; ++i)
      if (std::isfinite(values[i])) top = std::max<double>(top, values[i]);
    for (size_t i = 0; i < size; ++i) {
      if (std::isfinite(values[i])) terms[i] = exp_non_positive(rate * (values[i] - top));
      sum += terms[i];
    }
  }
};

}  // namespace matryoshka
