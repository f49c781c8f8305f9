// The promise of every exit rule on every backend: survivors score what they would have scored without it.
#include <cmath>
#include <cstring>
#include <functional>
#include <thread>

#include "check.h"
#include "cpu/cpu_backend.h"
#include "engine/forward.h"
#include "random_model.h"
#include "reference/reference_backend.h"

namespace matryoshka {
namespace {

using Make = std::function<std::unique_ptr<Backend>(std::shared_ptr<const Checkpoint>)>;

std::vector<std::pair<std::string, Make>> backends() {
  std::vector<std::pair<std::string, Make>> all = {{"reference", make_reference_backend}};
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::int8})
    all.push_back({"cpu", [dtype](std::shared_ptr<const Checkpoint> checkpoint) { return make_cpu_backend(checkpoint, {2, dtype, ""}); }});
  return all;
}

ExitPlan full_plan(const Checkpoint& checkpoint) {
  ExitPlan plan;
  plan.depth = checkpoint.exit_layers().back();
  plan.report.assign(checkpoint.exit_layers().size(), 1);
  return plan;
}

/// A rule at every exit but the last, reading that exit's own score.
ExitRule rule_everywhere(RuleKind kind, int exits) {
  ExitRule rule;
  rule.kind = kind;
  for (int exit = 0; exit + 1 < exits; ++exit) {
    ExitHead head;
    head.exit = exit;
    head.width = 0.5f;
    head.trend = 0.25f;
    rule.heads.push_back(head);
  }
  return rule;
}

Scores run(Backend& backend, const Checkpoint& checkpoint, const TokenBatch& batch, const ExitPlan& plan) {
  Scores scores;
  const std::atomic<bool> cancelled{false};
  CHECK(forward(backend, checkpoint, batch, plan, cancelled, scores));
  return scores;
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// Every score a document got before it stopped is the one of the full pass; after, there is none.
void check_prefix(const Scores& exited, const Scores& full, const Checkpoint& checkpoint, bool every_exit_scores) {
  const std::vector<int>& layers = checkpoint.exit_layers();
  for (size_t s = 0; s < exited.exit_layers.size(); ++s)
    for (int e = 0; e < exited.exits; ++e) {
      const float score = exited.logits[s * exited.exits + e];
      if (layers[e] > exited.exit_layers[s]) CHECK(std::isnan(score));
      else if (every_exit_scores || layers[e] == exited.exit_layers[s]) CHECK(same_bits(score, full.logits[s * full.exits + e]));
    }
}

const check::Shape kShape;

/// Calls body(backend, checkpoint) on every backend, of a model with linear heads and of one with heads conditioned on the
/// query and logits that carry the exit before.
void on_every_backend(uint32_t seed, const std::function<void(Backend&, const Checkpoint&)>& body) {
  for (const check::Shape& shape : {kShape, check::carrying(check::conditioned(kShape))}) {
    const check::RandomModel model(shape, seed);
    for (const auto& [name, make] : backends()) body(*make(model.checkpoint()), *model.checkpoint());
  }
}

TEST("survivors of the top-k rule score bit for bit what they score without exits, over random lists and scales") {
  on_every_backend(11, [](Backend& backend, const Checkpoint& checkpoint) {
    std::mt19937 random(5);
    int stopped = 0, kept = 0;
    for (int round = 0; round < 12; ++round) {
      const TokenBatch batch = check::random_batch(random, kShape, {1 + static_cast<int>(random() % 9), 12, 2}, 20);
      ExitPlan plan = full_plan(checkpoint);
      const Scores full = run(backend, checkpoint, batch, plan);
      plan.rule = rule_everywhere(RuleKind::top_k, full.exits);
      plan.rule.k = 1 + static_cast<int>(random() % 4);
      plan.rule.scale = 0.05f * static_cast<float>(random() % 8);
      for (ExitHead& head : plan.rule.heads) head.spread = round % 3 == 0 ? 0.2f : 0;
      const Scores exited = run(backend, checkpoint, batch, plan);
      check_prefix(exited, full, checkpoint, true);
      for (const uint8_t layer : exited.exit_layers) ++(layer < plan.depth ? stopped : kept);
      for (int list = 0; list < batch.lists(); ++list) {
        int left = 0;
        for (int s = batch.list_offsets[list]; s < batch.list_offsets[list + 1]; ++s) left += exited.exit_layers[s] == plan.depth;
        CHECK(left >= std::min(plan.rule.k, batch.list_offsets[list + 1] - batch.list_offsets[list]));
      }
    }
    CHECK(stopped > 50 && kept > 50);
  });
}

TEST("under a budget survivors do too, and with nothing at stake nobody stops, with everything everybody") {
  on_every_backend(15, [](Backend& backend, const Checkpoint& checkpoint) {
    std::mt19937 random(10);
    int stopped = 0, kept = 0;
    for (int round = 0; round < 12; ++round) {
      const TokenBatch batch = check::random_batch(random, kShape, {1 + static_cast<int>(random() % 9), 12, 2}, 20);
      ExitPlan plan = full_plan(checkpoint);
      const Scores full = run(backend, checkpoint, batch, plan);
      plan.rule = rule_everywhere(RuleKind::budget, full.exits);
      plan.rule.discounts = {1, 0.63f, 0.5f};
      plan.rule.stake = round == 0 ? 0 : round == 1 ? 100 : 0.002 * round;
      const Scores exited = run(backend, checkpoint, batch, plan);
      check_prefix(exited, full, checkpoint, true);
      for (const uint8_t layer : exited.exit_layers) {
        ++(layer < plan.depth ? stopped : kept);
        if (round == 0) CHECK_EQ(int{layer}, plan.depth);
        if (round == 1) CHECK_EQ(int{layer}, checkpoint.exit_layers()[0]);
      }
    }
    CHECK(stopped > 50 && kept > 50);
  });
}

TEST("lists may vanish, all of them may, and the batch still ends in order") {
  on_every_backend(12, [](Backend& backend, const Checkpoint& checkpoint) {
    std::mt19937 random(6);
    const TokenBatch batch = check::random_batch(random, kShape, {3, 4, 5}, 12);
    ExitPlan plan = full_plan(checkpoint);
    const Scores full = run(backend, checkpoint, batch, plan);
    plan.rule = rule_everywhere(RuleKind::confidence, full.exits);
    for (ExitHead& head : plan.rule.heads) head.sure = -1;  // everybody is sure
    const Scores none_left = run(backend, checkpoint, batch, plan);
    for (const uint8_t layer : none_left.exit_layers) CHECK_EQ(int{layer}, 1);
    check_prefix(none_left, full, checkpoint, true);

    for (ExitHead& head : plan.rule.heads) head.sure = 1e30;
    plan.rule.heads.erase(plan.rule.heads.begin());
    plan.rule.difficulty.assign(batch.sequences(), 1);
    plan.rule.easy = 0.5f;
    for (int s = batch.list_offsets[1]; s < batch.list_offsets[2]; ++s) plan.rule.difficulty[s] = 0;
    const Scores one_list_gone = run(backend, checkpoint, batch, plan);
    for (int s = 0; s < batch.sequences(); ++s)
      CHECK_EQ(int{one_list_gone.exit_layers[s]}, s >= batch.list_offsets[1] && s < batch.list_offsets[2] ? 2 : plan.depth);
    check_prefix(one_list_gone, full, checkpoint, true);
  });
}

TEST("a shallower depth gives the scores that the full pass gives there") {
  on_every_backend(13, [](Backend& backend, const Checkpoint& checkpoint) {
    std::mt19937 random(8);
    const TokenBatch batch = check::random_batch(random, kShape, {7}, 30);
    const Scores full = run(backend, checkpoint, batch, full_plan(checkpoint));
    for (const int depth : checkpoint.exit_layers()) {
      ExitPlan plan;
      plan.depth = depth;
      plan.report.assign(full.exits, 0);
      plan.report[depth - 1] = 1;
      check_prefix(run(backend, checkpoint, batch, plan), full, checkpoint, false);
    }
  });
}

TEST("where logits carry the exit before, each is its head's score and that share of the logit there, whoever is asked for") {
  const check::RandomModel plain(kShape, 16), carrying(check::carrying(kShape), 16);
  std::mt19937 random(11);
  const TokenBatch batch = check::random_batch(random, kShape, {6, 3}, 20);
  for (const auto& [name, make] : backends()) {
    const auto heads = make(plain.checkpoint()), backend = make(carrying.checkpoint());
    const Scores scores = run(*heads, *plain.checkpoint(), batch, full_plan(*plain.checkpoint()));
    const Scores full = run(*backend, *carrying.checkpoint(), batch, full_plan(*carrying.checkpoint()));
    for (int s = 0; s < batch.sequences(); ++s) {
      double logit = 0;
      for (int e = 0; e < full.exits; ++e) {
        const size_t at = static_cast<size_t>(s) * full.exits + e;
        logit = e == 0 ? scores.logits[at] : 0.625 * scores.logits[at] + 0.375 * logit;
        CHECK(std::fabs(full.logits[at] - logit) < 1e-5);
      }
    }
    ExitPlan plan = full_plan(*carrying.checkpoint());
    plan.report.assign(full.exits, 0);
    plan.report.back() = 1;
    const Scores last = run(*backend, *carrying.checkpoint(), batch, plan);
    plan.rule = rule_everywhere(RuleKind::confidence, 4);  // decides at all exits but one before the last
    plan.rule.heads.erase(plan.rule.heads.begin() + 1);
    const Scores decided = run(*backend, *carrying.checkpoint(), batch, plan);
    for (int s = 0; s < batch.sequences(); ++s)
      for (const Scores* some : {&last, &decided})
        CHECK(same_bits(some->logits[(s + 1) * full.exits - 1], full.logits[(s + 1) * full.exits - 1]));
  }
}

TEST("past its deadline a pass ends at the next layer that has scored, and says so") {
  on_every_backend(14, [](Backend& backend, const Checkpoint& checkpoint) {
    std::mt19937 random(9);
    const TokenBatch batch = check::random_batch(random, kShape, {4}, 10);
    ExitPlan plan = full_plan(checkpoint);
    const Scores full = run(backend, checkpoint, batch, plan);
    CHECK(!full.partial);
    plan.deadline = std::chrono::steady_clock::now();
    plan.report[0] = 0;
    const Scores cut = run(backend, checkpoint, batch, plan);
    CHECK(cut.partial);
    for (const uint8_t layer : cut.exit_layers) CHECK_EQ(int{layer}, 2);
    check_prefix(cut, full, checkpoint, false);
  });
}

/// The reference, which takes its time to decide.
class Slow : public Backend {
 public:
  explicit Slow(std::shared_ptr<const Checkpoint> checkpoint) : own_(make_reference_backend(checkpoint)) {}
  void begin(const TokenBatch& batch, int exits, bool states) override { own_->begin(batch, exits, states); }
  void run(Rows rows, int steps, const std::function<void(Ops&, int)>& body) override { own_->run(rows, steps, body); }
  void decide(const ExitRule& rule, int exit) override {
    own_->decide(rule, exit);
    while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
  }
  void finish(Scores& scores) override { own_->finish(scores); }
  std::string describe() const override { return own_->describe(); }

  std::chrono::steady_clock::time_point until;

 private:
  std::unique_ptr<Backend> own_;
};

TEST("a pass whose documents had all stopped by their rule when the deadline came is not partial") {
  const check::RandomModel model(kShape, 14);
  const Checkpoint& checkpoint = *model.checkpoint();
  std::mt19937 random(9);
  const TokenBatch batch = check::random_batch(random, kShape, {4}, 10);
  for (const double sure : {-1.0, static_cast<double>(INFINITY)}) {
    Slow backend(model.checkpoint());
    ExitPlan plan = full_plan(checkpoint);
    plan.rule = rule_everywhere(RuleKind::confidence, 2);
    plan.rule.heads[0].sure = sure;
    // Far enough that the first decision comes before it, which then waits until it has passed.
    plan.deadline = backend.until = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    const Scores scores = run(backend, checkpoint, batch, plan);
    CHECK_EQ(scores.partial, sure > 0);
    CHECK_EQ(int{scores.exit_layers[0]}, 1);
  }
}

TEST("a list that is not longer than k, and a score that is not finite, stop nobody") {
  ExitRule rule = rule_everywhere(RuleKind::top_k, 2);
  rule.heads[0].width = 0;
  rule.k = 2;
  TokenBatch batch;
  batch.cu_seqlens = {0, 1, 2, 3, 4, 5};
  batch.list_offsets = {0, 2, 5};
  Scores scores;
  scores.exits = 2;
  scores.logits = {9, 0, 1, 0, 5, 0, NAN, 0, -3, 0};
  Standings standings;
  std::vector<uint8_t> stop;
  decide(rule, 0, batch.list_offsets, ActiveSet::all(batch), scores, standings, stop);
  CHECK((stop == std::vector<uint8_t>{0, 0, 0, 0, 0}));  // of {5, NaN, -3}, the 2nd largest lower bound is -3
  rule.k = 1;
  decide(rule, 0, batch.list_offsets, ActiveSet::all(batch), scores, standings, stop);
  CHECK((stop == std::vector<uint8_t>{0, 1, 0, 0, 1}));
}

/// Of a token each.
TokenBatch one_list_of_three() {
  TokenBatch batch;
  batch.cu_seqlens = {0, 1, 2, 3};
  batch.list_offsets = {0, 3};
  return batch;
}

TEST("where a model has compensations, rules read their estimates and units in place of logits and 1") {
  ExitRule rule = rule_everywhere(RuleKind::top_k, 2);
  rule.heads[0].width = 1;
  rule.heads[0].trend = 0;
  rule.scale = 1;
  rule.k = 1;
  const TokenBatch batch = one_list_of_three();
  Scores scores;
  scores.reset(3, 2, true, 0);
  scores.logits = {0, 0, 9, 0, 9, 0};
  scores.estimates = {9, 0, 5, 0, 5, 0};
  scores.units = {1, 1, 1, 1, 4, 1};
  Standings standings;
  std::vector<uint8_t> stop;
  decide(rule, 0, batch.list_offsets, ActiveSet::all(batch), scores, standings, stop);
  CHECK((stop == std::vector<uint8_t>{0, 1, 0}));  // 5 + 1 < 9 - 1, but not 5 + 4
}

TEST("with a spread the first exit measures, and later ones widen by how far the whole list's changes part there") {
  ExitRule rule = rule_everywhere(RuleKind::top_k, 4);
  for (ExitHead& head : rule.heads) {
    head.width = 0.1f;
    head.trend = 0;
    head.spread = 1;
  }
  rule.scale = 1;
  rule.k = 1;
  const TokenBatch batch = one_list_of_three();
  Scores scores;
  scores.exits = 4;
  scores.logits = {9, 9, 9, 0, 5, 5, 5, 0, 0, 2, 2, 0};  // changes 0, 0, 2
  ActiveSet active = ActiveSet::all(batch);
  Standings standings;
  std::vector<uint8_t> stop;
  decide(rule, 0, batch.list_offsets, active, scores, standings, stop);
  CHECK((stop == std::vector<uint8_t>{0, 0, 0}));
  decide(rule, 1, batch.list_offsets, active, scores, standings, stop);
  CHECK((stop == std::vector<uint8_t>{0, 0, 1}));  // 2 + 2.1 < 9 - 2.1 < 5 + 2.1
  compact(active, stop);
  scores.logits[6] = 4;
  decide(rule, 2, batch.list_offsets, active, scores, standings, stop);
  CHECK((stop == std::vector<uint8_t>{0, 1}));  // 4 + 2.1 < 9 - 2.1: whoever has stopped still counts
}

TEST("a budget keeps whom it is unsure of among the first k, and lets go who is surely in as well as who is surely out") {
  ExitRule rule = rule_everywhere(RuleKind::budget, 2);
  rule.heads[0].width = 0.5f;
  rule.discounts = {1, 0.63f};
  rule.stake = 1e-3;
  TokenBatch batch;
  batch.cu_seqlens = {0, 1, 2, 3, 4, 5};
  batch.list_offsets = {0, 5};
  Scores scores;
  scores.exits = 2;
  scores.logits = {9, 0, 3.2f, 0, 3, 0, NAN, 0, -9, 0};
  Standings standings;
  standings.reset(5, 1);
  std::vector<uint8_t> stop;
  decide(rule, 0, batch.list_offsets, ActiveSet::all(batch), scores, standings, stop);
  CHECK((stop == std::vector<uint8_t>{1, 0, 0, 0, 1}));
}

TEST("under a budget whoever has stopped moves on with its list") {
  ExitRule rule = rule_everywhere(RuleKind::budget, 4);
  for (ExitHead& head : rule.heads) head.trend = 0;
  rule.discounts = {1};
  rule.stake = 1e-3;
  const TokenBatch batch = one_list_of_three();
  Scores scores;
  scores.exits = 4;
  // The first is far behind and stops. Then the list sinks by 8: it must not come to be ahead.
  scores.logits = {0, NAN, NAN, NAN, 6, -2, -2, 0, 6.5f, -1.5f, 3, 0};
  ActiveSet active = ActiveSet::all(batch);
  Standings standings;
  standings.reset(3, 1);
  std::vector<uint8_t> stop;
  decide(rule, 0, batch.list_offsets, active, scores, standings, stop);
  CHECK((stop == std::vector<uint8_t>{1, 0, 0}));
  compact(active, stop);
  decide(rule, 1, batch.list_offsets, active, scores, standings, stop);
  CHECK((stop == std::vector<uint8_t>{0, 0}));
  CHECK_EQ(standings.level[0], -8.0);
  CHECK_EQ(standings.place[0], 0.0);
  CHECK_EQ(standings.place[2], 6.5);
  decide(rule, 2, batch.list_offsets, active, scores, standings, stop);
  CHECK((stop == std::vector<uint8_t>{1, 1}));
}

}  // namespace
}  // namespace matryoshka
