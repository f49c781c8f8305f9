// The oracle's gradients against finite differences in double: every kind of parameter, then the whole loss.
#include <cmath>

#include "check.h"
#include "engine/queries.h"
#include "model/checkpoint.h"
#include "random_model.h"
#include "train/heads.h"
#include "train/losses.h"
#include "train/reference/reference_train_backend.h"

using namespace matryoshka;
using namespace matryoshka::check;
using namespace matryoshka::train;

namespace {

/// A model, a batch of three lists and something to score.
struct Case {
  explicit Case(const Shape& s, const InitialOptions& options = {}) : shape(s), files(s, 21), model(read_initial_model(files.path(), options)), weights(model.weights.begin(), model.weights.end()) {
    std::mt19937 random(4);
    batch = random_batch(random, shape, {4, 1, 3}, 9);
    if (shape.query_heads) batch = with_queries(batch);
    skipped.assign(shape.layers, 0);
  }
  int exits() const { return static_cast<int>(model.layout.exit_layers.size()); }

  Shape shape;
  RandomModel files;
  InitialModel model;
  std::vector<double> weights;
  TokenBatch batch;
  std::vector<uint8_t> skipped;
};

const Shape kSmall{3, 12, 3, 20, 30, 16};

/// Fourth-order central difference of f at weights[i].
template <class F>
double slope(std::vector<double>& weights, size_t i, double step, const F& f) {
  const double at = weights[i];
  const auto value = [&](double x) {
    weights[i] = x;
    return f();
  };
  const double near = value(at + step) - value(at - step), far = value(at + 2 * step) - value(at - 2 * step);
  weights[i] = at;
  return (8 * near - far) / (12 * step);
}

/// Compares a few entries of every parameter tensor; the error is relative to the tensor's largest gradient.
template <class F>
void check_gradients(Case& c, const std::vector<double>& gradients, const F& f) {
  std::mt19937 random(5);
  for (const Parameter& p : c.model.layout.parameters) {
    double largest = 0, error = 0;
    for (size_t i = 0; i < p.count; ++i) largest = std::fmax(largest, std::fabs(gradients[p.offset + i]));
    // Key biases shift all of a query's scores alike: softmax does not see them, and their gradient is exactly nothing.
    const double scale = std::fmax(largest, 1e-3);
    for (int n = 0; n < 6; ++n) {
      const size_t i = p.offset + random() % p.count;
      error = std::fmax(error, std::fabs(slope(c.weights, i, 1e-5, f) - gradients[i]) / scale);
    }
    if (!(error <= 1e-6)) fail(__FILE__, __LINE__, p.name + ": relative error " + std::to_string(error * 1e6) + "e-6");
  }
}

void check_logits(Case& c) {
  ReferenceTrainBackend backend(c.model.layout);
  const std::vector<double> logits = backend.forward(c.weights, c.batch, c.skipped);
  std::mt19937 random(6);
  std::normal_distribution<double> normal;
  std::vector<double> direction(logits.size());
  for (double& d : direction) d = normal(random);
  const std::vector<double> gradients = backend.backward(direction);
  check_gradients(c, gradients, [&] {
    const std::vector<double> moved = ReferenceTrainBackend(c.model.layout).forward(c.weights, c.batch, c.skipped);
    double sum = 0;
    for (size_t i = 0; i < moved.size(); ++i) sum += moved[i] * direction[i];
    return sum;
  });
}

}  // namespace

TEST("every parameter's gradient is the slope of the logits by it") {
  Case c(kSmall);
  check_logits(c);
}

TEST("… with each activation") {
  for (const Activation activation : {Activation::gelu_tanh, Activation::relu}) {
    Case c(kSmall);
    c.model.layout.architecture.activation = activation;
    check_logits(c);
  }
}

TEST("… with heads conditioned on the query, of the queries' rows too") {
  for (const std::vector<uint8_t>& skipped : {std::vector<uint8_t>{0, 0, 0}, {0, 1, 0}, {0, 0, 1}}) {
    Case c(conditioned(kSmall));
    c.skipped = skipped;
    check_logits(c);
  }
}

TEST("… with exits at some layers only, skipped layers, the last among them, and more token types") {
  for (const std::vector<uint8_t>& skipped : {std::vector<uint8_t>{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {0, 1, 1}, {1, 1, 1}}) {
    InitialOptions options;
    options.exit_layers = {2, 3};
    options.type_rows = 4;
    Case c(kSmall, options);
    c.skipped = skipped;
    for (size_t t = 0; t < c.batch.type_ids.size(); t += 3) c.batch.type_ids[t] += 2;
    check_logits(c);
  }
}

TEST("the whole loss's gradient is its slope, in every direction of distillation, and where logits carry the exit before") {
  for (const Direction direction : {Direction::forward, Direction::reverse}) {
    InitialOptions options;
    if (direction == Direction::reverse) options.carry = {0, 0.3, 0.6};
    Case c(kSmall, options);
    LossConfig config;
    config.exit_weights = {1.5, 0.7, 1};
    config.rank = 1;
    config.binary = 0.3;
    config.teachers = {{0.4, 0.5}, {0.2, 2, 3}};
    config.distill = 0.6;
    config.temperature = 1.7;
    config.direction = direction;
    config.teacher_of = nearest_anchors(3, {1});
    Targets targets;
    targets.labels = {1, 0, NAN, 0, NAN, 0.5f, 0, 1};
    targets.teachers = {{0.1f, 0.9f, 0.4f, NAN, 1, NAN, 0.3f, NAN}, {3, 1, 2, 0, NAN, 1, 2, -1}};
    const int lists = c.batch.lists();
    ReferenceTrainBackend backend(c.model.layout);
    std::vector<double> logits = backend.forward(c.weights, c.batch, c.skipped);
    carry_forth(c.model.layout, logits);
    std::vector<double> d_logits;
    LossValue value;
    add_losses(config, targets, c.batch.list_offsets, 0, lists, lists, logits, value, d_logits);
    carry_back(c.model.layout, d_logits);
    const std::vector<double> gradients = backend.backward(d_logits);
    // Teachers are detached: the slope is taken with the deeper exits' scores, as teachers, held where they are.
    check_gradients(c, gradients, [&] {
      std::vector<double> moved = ReferenceTrainBackend(c.model.layout).forward(c.weights, c.batch, c.skipped);
      carry_forth(c.model.layout, moved);
      double total = 0;
      for (int exit = 0; exit < 3; ++exit) {
        std::vector<double> one = logits;
        for (size_t i = exit; i < one.size(); i += 3) one[i] = moved[i];
        LossConfig only = config;
        for (int other = 0; other < 3; ++other)
          if (other != exit) only.exit_weights[other] = 0;
        LossValue at;
        std::vector<double> unused;
        add_losses(only, targets, c.batch.list_offsets, 0, lists, lists, one, at, unused);
        total += at.total;
      }
      return total;
    });
  }
}
