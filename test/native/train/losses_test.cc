// What each part of the loss is, by hand; that its gradient is the slope is gradient_test's to show.
#include "train/losses.h"

#include <cmath>

#include "check.h"

using namespace matryoshka;
using namespace matryoshka::train;

namespace {

bool near(double a, double b) { return std::fabs(a - b) < 1e-12; }

LossConfig nothing(int exits) {
  LossConfig config;
  config.exit_weights.assign(exits, 1);
  config.teacher_of = nearest_anchors(exits, {});
  return config;
}

struct Outcome {
  LossValue value;
  std::vector<double> gradients;
};

Outcome lose(const LossConfig& config, const Targets& targets, const std::vector<int32_t>& lists, const std::vector<double>& logits) {
  Outcome out;
  const int count = static_cast<int>(lists.size()) - 1;
  add_losses(config, targets, lists, 0, count, count, logits, out.value, out.gradients);
  return out;
}

bool all_zero(const std::vector<double>& values) {
  for (const double v : values)
    if (v != 0) return false;
  return true;
}

}  // namespace

TEST("cross-entropy is that of the positive among the labelled pairs of its list, and pulls there") {
  LossConfig config = nothing(1);
  config.rank = 2;
  const Outcome o = lose(config, {{1, 0, NAN}, {}}, {0, 3}, {0.5, -0.5, 9});
  const double p = 1 / (1 + std::exp(-1.0));
  CHECK(near(o.value.exits[0].rank, -std::log(p)));
  CHECK(near(o.value.total, -2 * std::log(p)));
  CHECK(near(o.gradients[0], 2 * (p - 1)));
  CHECK(near(o.gradients[1], 2 * (1 - p)));
  CHECK(o.gradients[2] == 0);
}

TEST("several positives share the target by their labels") {
  LossConfig config = nothing(1);
  config.rank = 1;
  const Outcome o = lose(config, {{1, 0.5f, 0}, {}}, {0, 3}, {0, 0, 0});
  CHECK(near(o.value.total, std::log(3.0)));
  CHECK(near(o.gradients[0], 1.0 / 3 - 2.0 / 3));
  CHECK(near(o.gradients[1], 1.0 / 3 - 1.0 / 3));
  CHECK(near(o.gradients[2], 1.0 / 3));
}

TEST("a list with nothing to rank, nothing labelled, or fewer than two teacher scores adds nothing") {
  LossConfig config = nothing(1);
  config.rank = 1;
  config.teachers = {{1, 1}};
  const std::vector<double> logits = {1, 2, 3, 4};
  for (const Targets& targets : {Targets{{1, 1, 1, 1}, {{NAN, NAN, 3, NAN}}}, Targets{{0, 0, 0, 0}, {{NAN, NAN, NAN, NAN}}}, Targets{{NAN, NAN, NAN, NAN}, {{NAN, NAN, NAN, 1}}}}) {
    const Outcome o = lose(config, targets, {0, 4}, logits);
    CHECK(o.value.total == 0);
    CHECK(all_zero(o.gradients));
  }
}

TEST("binary cross-entropy is the mean over a list's labelled pairs, and survives large logits") {
  LossConfig config = nothing(1);
  config.binary = 1;
  const Outcome o = lose(config, {{1, 0, NAN}, {}}, {0, 3}, {0, 800, 3});
  CHECK(near(o.value.total, (std::log(2.0) + 800) / 2));
  CHECK(near(o.gradients[0], -0.25));
  CHECK(near(o.gradients[1], 0.5));
}

TEST("a teacher's scores are a distribution at its temperature, and a student that has it loses nothing") {
  LossConfig config = nothing(1);
  config.teachers = {{3, 0.5}};
  const Outcome o = lose(config, {{NAN, NAN, NAN}, {{0.1f, NAN, 0.6f}}}, {0, 3}, {7, 100, 8});
  CHECK(std::fabs(o.value.total) < 1e-6);
  CHECK(std::fabs(o.gradients[0]) < 1e-6);
  CHECK(o.gradients[1] == 0);
}

TEST("softened, a teacher whose first is far ahead still says how the others are ordered: in the limit, by squared differences") {
  const Targets targets{{NAN, NAN, NAN, NAN}, {{30, 2, 0, -2}}};
  const std::vector<double> logits = {30, 0, 2, -2};
  LossConfig config = nothing(1);
  config.teachers = {{1, 1}};
  CHECK(std::fabs(lose(config, targets, {0, 4}, logits).gradients[1]) < 1e-9);
  config.teachers = {{1, 1, 1e4}};
  const Outcome o = lose(config, targets, {0, 4}, logits);
  const double differences[] = {0, -2, 2, 0};  // student's less teacher's, which are the same on the mean
  for (int i = 0; i < 4; ++i) CHECK(std::fabs(o.gradients[i] - differences[i] / 4) < 0.01);
  CHECK(std::fabs(o.value.total - (4.0 + 4.0) / 8) < 0.01);
}

TEST("each exit but the last learns from the last, or from the nearest deeper anchor") {
  CHECK(nearest_anchors(5, {}) == (std::vector<int>{4, 4, 4, 4, -1}));
  CHECK(nearest_anchors(5, {1, 2}) == (std::vector<int>{1, 2, 4, 4, -1}));
  CHECK(nearest_anchors(1, {0}) == (std::vector<int>{-1}));
}

TEST("self-distillation costs the mass the student denies a document its teacher ranks high; reversed, it does not") {
  LossConfig config = nothing(2);
  config.distill = 1;
  const std::vector<double> logits = {20, 0, 0, 0};  // two pairs: exit 0 is sure of the first, the last exit is not
  const Targets none = {{NAN, NAN}, {}};
  const Outcome forward = lose(config, none, {0, 2}, logits);
  config.direction = Direction::reverse;
  const Outcome reverse = lose(config, none, {0, 2}, logits);
  CHECK(std::fabs(forward.value.total - (10 - std::log(2.0))) < 1e-6);
  CHECK(std::fabs(reverse.value.total - std::log(2.0)) < 1e-6);
  CHECK(forward.gradients[1] == 0 && forward.gradients[3] == 0);  // the teacher stays where it is
}

TEST("the loss is the mean over lists, exit by exit as weighted") {
  LossConfig config = nothing(2);
  config.exit_weights = {0.5, 2};
  config.rank = 1;
  const Outcome o = lose(config, {{1, 0, 1, 0}, {}}, {0, 2, 4}, {0, 1, 0, 0, 2, 0, 1, 0});
  const double first = (std::log(2.0) + std::log(1 + std::exp(-1.0))) / 2, last = (std::log(1 + std::exp(-1.0)) + std::log(2.0)) / 2;
  CHECK(near(o.value.exits[0].rank, first));
  CHECK(near(o.value.exits[1].rank, last));
  CHECK(near(o.value.total, 0.5 * first + 2 * last));
}

TEST("weights, temperatures, labels and scores that are no such thing are refused") {
  const LossConfig good = nothing(2);
  CHECK_THROWS(validate(good, 3), "ERR_INVALID_ARGUMENT", "3 exits");
  LossConfig config = good;
  config.rank = NAN;
  CHECK_THROWS_CODE(validate(config, 2), "ERR_INVALID_ARGUMENT");
  config = good;
  config.temperature = 0;
  CHECK_THROWS_CODE(validate(config, 2), "ERR_INVALID_ARGUMENT");
  CHECK_THROWS(validate({{1}, {}}, good, 2), "ERR_INVALID_ARGUMENT", "2 pairs");
  CHECK_THROWS(validate({{1, 2}, {}}, good, 2), "ERR_INVALID_ARGUMENT", "pair 1");
  CHECK_THROWS(validate({{1, 0}, {{1, 1}}}, good, 2), "ERR_INVALID_ARGUMENT", "0 teachers");
  config = good;
  config.teachers = {{1, 1}};
  CHECK_THROWS(validate({{1, 0}, {{1, INFINITY}}}, config, 2), "ERR_INVALID_ARGUMENT", "pair 1");
}
