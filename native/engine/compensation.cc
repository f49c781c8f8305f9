#include "engine/compensation.h"

#include <algorithm>
#include <cmath>

namespace matryoshka {
namespace {

constexpr double kLargestLogUnit = 6;

}  // namespace

Compensation::Compensation(const CompensationSource& source) : output_(widened(*source.output_weight)) {
  units_ = static_cast<int>(output_.size() / 2) - 1;
  const std::vector<float> bias = widened(*source.output_bias);
  std::copy(bias.begin(), bias.end(), output_bias_);
  if (units_ == 0) return;
  bias_ = widened(*source.hidden_bias);
  const std::vector<float> rows = widened(*source.hidden_weight);
  hidden_ = static_cast<int>(rows.size()) / units_;
  weight_.resize(rows.size());
  for (int m = 0; m < units_; ++m)
    for (int i = 0; i < hidden_; ++i) weight_[static_cast<size_t>(i) * units_ + m] = rows[static_cast<size_t>(m) * hidden_ + i];
}

std::vector<Compensation> Compensation::all(const Checkpoint& checkpoint) {
  std::vector<Compensation> out;
  if (checkpoint.compensated())
    for (int exit = 0; exit + 1 < static_cast<int>(checkpoint.exit_layers().size()); ++exit) out.emplace_back(checkpoint.compensation(exit));
  return out;
}

template <class T>
Compensation::Estimate Compensation::operator()(const T* state, float logit) const {
  constexpr int kMost = 64;
  double z[kMost];
  double score = output_bias_[0] + static_cast<double>(output_[units_]) * logit;
  double log_unit = output_bias_[1] + static_cast<double>(output_[2 * units_ + 1]) * logit;
  for (int first = 0; first < units_; first += kMost) {
    const int n = std::min(kMost, units_ - first);
    for (int m = 0; m < n; ++m) z[m] = bias_[first + m];
    for (int i = 0; i < hidden_; ++i) {
      const double x = state[i];
      const float* w = &weight_[static_cast<size_t>(i) * units_ + first];
      for (int m = 0; m < n; ++m) z[m] += w[m] * x;
    }
    for (int m = 0; m < n; ++m) {
      const double t = std::tanh(z[m]);
      score += output_[first + m] * t;
      log_unit += output_[units_ + 1 + first + m] * t;
    }
  }
  return {static_cast<float>(score), static_cast<float>(std::exp(std::clamp(log_unit, -kLargestLogUnit, kLargestLogUnit)))};
}

template <class T>
void put_score(Scores& scores, const std::vector<Compensation>& all, int sequence, int exit, const T* state, int hidden, float score, float carry) {
  const size_t at = static_cast<size_t>(sequence) * scores.exits + exit;
  const float logit = carry > 0 ? (1 - carry) * score + carry * scores.logits[at - 1] : score;
  scores.logits[at] = logit;
  if (!scores.states.empty()) std::copy(state, state + hidden, &scores.states[at * hidden]);
  if (scores.estimates.empty()) return;
  const Compensation::Estimate found = exit < static_cast<int>(all.size()) ? all[exit](state, logit) : Compensation::Estimate{logit, 1};
  scores.estimates[at] = found.score;
  scores.units[at] = found.unit;
}

template void put_score(Scores&, const std::vector<Compensation>&, int, int, const float*, int, float, float);
template void put_score(Scores&, const std::vector<Compensation>&, int, int, const double*, int, float, float);

}  // namespace matryoshka
