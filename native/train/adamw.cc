#include "train/adamw.h"

#include <algorithm>
#include <cmath>

namespace matryoshka::train {
namespace {

constexpr size_t kSlice = size_t{1} << 16;
constexpr int kSums = 8;  // independent sums, so that the compiler can keep them in vectors

double sum_of_squares(const float* x, size_t count) {
  double sums[kSums] = {};
  size_t i = 0;
  for (; i + kSums <= count; i += kSums)
    for (int j = 0; j < kSums; ++j) sums[j] += static_cast<double>(x[i + j]) * x[i + j];
  for (; i < count; ++i) sums[0] += static_cast<double>(x[i]) * x[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

/// What an element's update needs, the same for a whole slice.
struct Factors {
  float beta1, one_minus_beta1, beta2, one_minus_beta2, scale, rate, decay, epsilon, correction;
};

void update_slice(const Factors& f, size_t count, const float* __restrict gradient, float* __restrict weight, float* __restrict first, float* __restrict second) {
  for (size_t i = 0; i < count; ++i) {
    const float g = gradient[i] * f.scale;
    first[i] = f.beta1 * first[i] + f.one_minus_beta1 * g;
    second[i] = f.beta2 * second[i] + f.one_minus_beta2 * g * g;
    weight[i] = weight[i] * f.decay - f.rate * first[i] / (std::sqrt(second[i]) * f.correction + f.epsilon);
  }
}

}  // namespace

AdamW::AdamW(const Layout& layout, const AdamOptions& options) : first(layout.size), second(layout.size), options_(options) {
  for (const Parameter& p : layout.parameters)
    for (size_t begin = 0; begin < p.count; begin += kSlice) slices_.push_back({p.offset + begin, p.offset + std::min(begin + kSlice, p.count), p.decays, p.fast});
}

double AdamW::norm(const float* gradients, cpu::ThreadPool& pool) const {
  std::vector<double> sums(slices_.size());
  pool.each(sums.size(), [&](size_t i) { sums[i] = sum_of_squares(gradients + slices_[i].begin, slices_[i].end - slices_[i].begin); });
  double total = 0;
  for (const double sum : sums) total += sum;
  return std::sqrt(total);
}

void AdamW::update(float* weights, const float* gradients, double norm, const LearningRates& rates, cpu::ThreadPool& pool) {
  ++step;
  const double t = static_cast<double>(step), bias1 = 1 - std::pow(options_.beta1, t), bias2 = 1 - std::pow(options_.beta2, t);
  Factors common;
  common.beta1 = static_cast<float>(options_.beta1);
  common.one_minus_beta1 = static_cast<float>(1 - options_.beta1);
  common.beta2 = static_cast<float>(options_.beta2);
  common.one_minus_beta2 = static_cast<float>(1 - options_.beta2);
  common.scale = norm > options_.clip ? static_cast<float>(options_.clip / norm) : 1.f;
  common.epsilon = static_cast<float>(options_.epsilon);
  common.correction = static_cast<float>(1 / std::sqrt(bias2));
  pool.each(slices_.size(), [&](size_t i) {
    const Slice& slice = slices_[i];
    const double rate = slice.fast ? rates.heads : rates.encoder;
    Factors f = common;
    f.rate = static_cast<float>(rate / bias1);
    f.decay = slice.decays ? static_cast<float>(1 - rate * options_.weight_decay) : 1.f;
    update_slice(f, slice.end - slice.begin, gradients + slice.begin, weights + slice.begin, &first[slice.begin], &second[slice.begin]);
  });
}

}  // namespace matryoshka::train
