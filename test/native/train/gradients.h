// A backend's gradients beside the double-precision oracle's and those of an honest implementation in the same precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "check.h"
#include "engine/queries.h"
#include "random_model.h"
#include "train/reference/reference_train_backend.h"
#include "train/train_backend.h"

namespace matryoshka::train {

using namespace matryoshka::check;

inline double to_bf16(double x) {
  const float narrow = static_cast<float>(x);
  uint32_t bits;
  std::memcpy(&bits, &narrow, 4);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}
inline double to_float(double x) { return static_cast<float>(x); }

struct Case {
  Case(const Shape& shape, uint32_t seed) : files(shape, seed), model(read_initial_model(files.path(), {})), weights(model.weights.begin(), model.weights.end()), skipped(shape.layers) {
    std::mt19937 random(seed);
    batch = random_batch(random, shape, {4, 1, 6}, shape.positions);
    if (shape.query_heads) batch = with_queries(batch);
    std::normal_distribution<double> normal;
    for (int i = 0; i < batch.sequences() * shape.layers; ++i) direction.push_back(normal(random) / batch.sequences());
  }
  RandomModel files;
  InitialModel model;
  std::vector<double> weights;
  TokenBatch batch;
  std::vector<uint8_t> skipped;
  std::vector<double> direction;
};

struct Result {
  std::vector<double> logits;
  std::vector<float> gradients;
};

inline Result run(const Case& c, TrainBackend& backend) {
  backend.set_weights(c.model.weights.data());
  Result out;
  out.logits = backend.forward(c.batch, c.skipped);
  out.gradients.assign(c.model.layout.size, 0);
  backend.backward(c.direction, out.gradients.data());
  return out;
}

/// What goes back to the heads alone is what goes back to them on the whole way, bit for bit, and nothing else.
inline void check_heads_alone(const Case& c, TrainBackend& backend) {
  const Result whole = run(c, backend);
  std::vector<float> gradients(c.model.layout.size);
  backend.forward(c.batch, c.skipped);
  backend.backward_heads(c.direction, gradients.data());
  const size_t encoder = c.model.layout.heads.front().weight;
  CHECK(std::all_of(gradients.begin(), gradients.begin() + encoder, [](float g) { return g == 0; }));
  CHECK(std::any_of(gradients.begin() + encoder, gradients.end(), [](float g) { return g != 0; }));
  CHECK(std::memcmp(&gradients[encoder], &whole.gradients[encoder], (gradients.size() - encoder) * sizeof(float)) == 0);
}

inline double distance(const double* a, const double* b, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::isfinite(sum) ? std::sqrt(sum) : INFINITY;
}

/// What the double-precision oracle says of a case, and an honest implementation: one that rounds the same values and is
/// exact otherwise. Both are slow, so each is asked once.
struct Pass {
  Pass(const Case& c, Rounding rounding = [](double x) { return x; }) {
    ReferenceTrainBackend backend(c.model.layout, rounding);
    logits = backend.forward(c.weights, c.batch, c.skipped);
    gradients = backend.backward(c.direction);
  }
  std::vector<double> logits, gradients;
};

/// Each tensor's error is at most twice the honest one; `unit` of the largest gradients is granted where that is luckily near.
inline void check_near(const Case& c, const std::string& who, const Result& result, const Pass& oracle, const Pass& honest, double unit) {
  const std::vector<double> zero(oracle.gradients.size());
  const std::vector<double> gradients(result.gradients.begin(), result.gradients.end());
  const auto check = [&](const std::string& what, double error, double honest_error, double size) {
    if (!(error <= 2 * honest_error + unit * size))
      fail(__FILE__, __LINE__, who + " " + what + ": error " + std::to_string(error) + ", honest error " + std::to_string(honest_error) + ", size " + std::to_string(size));
  };
  const size_t n = oracle.logits.size();
  check("logits", distance(result.logits.data(), oracle.logits.data(), n), distance(honest.logits.data(), oracle.logits.data(), n), distance(oracle.logits.data(), zero.data(), n));
  for (const Parameter& p : c.model.layout.parameters) {
    const double* expected = &oracle.gradients[p.offset];
    const double size = distance(expected, &zero[p.offset], p.count);
    check(p.name, distance(&gradients[p.offset], expected, p.count), distance(&honest.gradients[p.offset], expected, p.count), std::fmax(size, 0.1));
  }
}

}  // namespace matryoshka::train
