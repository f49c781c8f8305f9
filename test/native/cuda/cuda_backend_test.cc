// The whole pass through the CUDA backend, its kernels emulated: near the reference in every precision, the same bits in
// any company, and every exit as the CPU backend decides it.
#include "cuda/cuda_backend.h"

#include <cmath>
#include <cstring>

#include "check.h"
#include "cpu/cpu_backend.h"
#include "cuda/emulator_kernels.h"
#include "cuda/emulator_stream.h"
#include "engine/forward.h"
#include "random_model.h"
#include "reference/reference_backend.h"
#include "simt/emulator.h"

namespace matryoshka::check {
namespace {

using cuda::ElementType;

constexpr ElementType kTypes[] = {ElementType::f32, ElementType::bf16, ElementType::f16};

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

std::unique_ptr<Backend> emulated(const RandomModel& model, ElementType type) {
  return make_cuda_backend(model.checkpoint(), cuda::make_emulator_stream(), type);
}

ExitPlan full_plan(const Checkpoint& checkpoint) {
  ExitPlan plan;
  plan.depth = checkpoint.exit_layers().back();
  plan.report.assign(checkpoint.exit_layers().size(), 1);
  return plan;
}

Scores run(Backend& backend, const Checkpoint& checkpoint, const TokenBatch& batch, const ExitPlan& plan) {
  Scores scores;
  const std::atomic<bool> cancelled{false};
  CHECK(forward(backend, checkpoint, batch, plan, cancelled, scores));
  return scores;
}

double largest_difference(const Scores& a, const Scores& b) {
  double largest = 0;
  for (size_t i = 0; i < a.logits.size(); ++i) {
    const double difference = std::fabs(a.logits[i] - b.logits[i]);
    if (std::isnan(difference)) return INFINITY;
    largest = std::max(largest, difference);
  }
  return largest;
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// A rule of random strength, reading every exit but the last, or every other one.
ExitRule random_rule(std::mt19937& random, int exits, int sequences) {
  ExitRule rule;
  const auto uniform = [&] { return static_cast<float>(random() % 1000) / 1000; };
  constexpr RuleKind kKinds[] = {RuleKind::top_k, RuleKind::confidence, RuleKind::budget};
  rule.kind = kKinds[random() % 3];
  const bool measured = random() % 2;
  for (int exit = 0; exit + 1 < exits; exit += 1 + static_cast<int>(random() % 2)) {
    ExitHead head;
    head.exit = exit;
    head.slope = 0.5f + uniform();
    head.offset = uniform() - 0.5f;
    head.width = uniform();
    head.trend = uniform() / 2;
    head.spread = measured ? uniform() / 8 : 0;
    head.sure = rule.kind == RuleKind::confidence ? 0.3 + 2 * uniform() : 0;
    rule.heads.push_back(head);
  }
  rule.k = 1 + static_cast<int>(random() % 4);
  rule.scale = uniform();
  rule.stake = 0.05 * uniform();
  for (int rank = 0; rank < rule.k; ++rank) rule.discounts.push_back(1 / std::log2(rank + 2.f));
  rule.over_list = random() % 2;
  if (rule.over_list)
    for (ExitHead& head : rule.heads) head.sure /= 2.5;
  if (random() % 3 == 0) {
    rule.easy = 0.2f;
    for (int s = 0; s < sequences; ++s) rule.difficulty.push_back(uniform());
  }
  return rule;
}

TEST("emulated kernels score as the reference does, whatever has to be padded") {
  // Heads and rows that need padding and heads that need company; then none of it.
  const Shape shapes[] = {{3, 24, 3, 40, 50, 40}, {2, 35, 5, 67, 50, 40}, {2, 128, 2, 192, 50, 150}, {1, 9, 1, 5, 20, 40}, {1, 128, 1, 64, 50, 70},
                          {2, 35, 5, 67, 50, 40, -1, true},  {3, 24, 3, 40, 50, 40, 4, true, 0.4f}};
  for (const Shape& shape : shapes) {
    const RandomModel model(shape, 11);
    std::mt19937 random(3);
    const TokenBatch batch = random_batch(random, shape, {5, 2}, kSanitized ? 20 : shape.positions);
    const auto reference = make_reference_backend(model.checkpoint());
    const Scores expected = run(*reference, *model.checkpoint(), batch, full_plan(*model.checkpoint()));
    for (const ElementType type : kTypes) {
      const auto backend = emulated(model, type);
      const double difference = largest_difference(run(*backend, *model.checkpoint(), batch, full_plan(*model.checkpoint())), expected);
      const double bound = type == ElementType::f32 ? 2e-5 : type == ElementType::bf16 ? 0.15 : 0.02;  // logits are of the order of 3
      std::printf("%s, hidden %d: off by %.1e\n", backend->describe().c_str(), shape.hidden, difference);
      if (!(difference < bound)) fail(__FILE__, __LINE__, backend->describe() + ", hidden " + std::to_string(shape.hidden) + ": off by " + std::to_string(difference));
    }
  }
}

TEST("survivors score bit for bit what they score without exits, in every precision") {
  for (const Shape& shape : {Shape(), carrying(conditioned({}))}) {
    const RandomModel model(shape, 12);
    const Checkpoint& checkpoint = *model.checkpoint();
    for (const ElementType type : kTypes) {
      const auto backend = emulated(model, type);
      std::mt19937 random(6);
      int stopped = 0, kept = 0;
      for (int round = 0; round < (kSanitized ? 2 : 8); ++round) {
        const TokenBatch batch = random_batch(random, shape, {7, 1, 5}, kSanitized ? 12 : 40);
        ExitPlan plan = full_plan(checkpoint);
        const Scores full = run(*backend, checkpoint, batch, plan);
        plan.rule = random_rule(random, full.exits, batch.sequences());
        const Scores exited = run(*backend, checkpoint, batch, plan);
        for (int s = 0; s < batch.sequences(); ++s) {
          ++(exited.exit_layers[s] < plan.depth ? stopped : kept);
          for (int e = 0; e < full.exits; ++e) {
            const float score = exited.logits[s * full.exits + e];
            if (checkpoint.exit_layers()[e] > exited.exit_layers[s]) CHECK(std::isnan(score));
            else CHECK(same_bits(score, full.logits[s * full.exits + e]));
          }
        }
      }
      CHECK(kSanitized || (stopped > 10 && kept > 10));
    }
  }
}

/// A model without compensations, and one with.
void check_exits(const Shape& shape) {
  const RandomModel model(shape, 13);
  const Checkpoint& checkpoint = *model.checkpoint();
  const auto device = emulated(model, ElementType::f32);
  const auto cpu = make_cpu_backend(model.checkpoint(), {1, Dtype::f32, ""});
  std::mt19937 random(8);
  int lists = 0, stopped = 0, kept = 0;
  while (lists < (kSanitized ? 8 : 240)) {
    std::vector<int> sizes(4);
    for (int& size : sizes) size = 1 + static_cast<int>(random() % 9);
    const TokenBatch batch = random_batch(random, shape, sizes, 10);
    ExitPlan plan = full_plan(checkpoint);
    plan.rule = random_rule(random, static_cast<int>(checkpoint.exit_layers().size()), batch.sequences());
    const Scores a = run(*device, checkpoint, batch, plan), b = run(*cpu, checkpoint, batch, plan);
    CHECK(a.exit_layers == b.exit_layers);
    for (const uint8_t layer : a.exit_layers) ++(layer < plan.depth ? stopped : kept);
    lists += batch.lists();
  }
  std::printf("%d lists: %d documents stopped, %d ran to the end\n", lists, stopped, kept);
  CHECK(kSanitized || (stopped > 200 && kept > 200));
}

TEST("every document stops in f32 where the CPU backend stops it, over random lists and rules") {
  check_exits({4, 32, 2, 48, 50, 24});
  check_exits({4, 32, 2, 48, 50, 24, 5});
  check_exits({4, 32, 2, 48, 50, 24, 3, true});
}

TEST("compensations say on the device what they say on the CPU, in every precision") {
  for (const int units : {0, 3, 40}) {
    const Shape shape{3, 40, 5, 50, 50, 24, units};
    const RandomModel model(shape, 17);
    std::mt19937 random(9);
    const TokenBatch batch = random_batch(random, shape, {5, 2}, 12);
    const ExitPlan plan = full_plan(*model.checkpoint());
    const Scores expected = run(*make_reference_backend(model.checkpoint()), *model.checkpoint(), batch, plan);
    for (const ElementType type : kTypes) {
      const Scores found = run(*emulated(model, type), *model.checkpoint(), batch, plan);
      const double bound = type == ElementType::f32 ? 2e-5 : type == ElementType::bf16 ? 0.3 : 0.04;
      CHECK_EQ(found.estimates.size(), expected.estimates.size());
      for (size_t i = 0; i < expected.estimates.size(); ++i) {
        CHECK(std::fabs(found.estimates[i] - expected.estimates[i]) < bound);
        CHECK(std::fabs(std::log(found.units[i] / expected.units[i])) < bound);
      }
    }
  }
}

TEST("a pair's score has the same bits alone and in company") {
  for (const Shape& shape : {Shape{2, 40, 5, 50, 50, 70}, Shape{2, 40, 5, 50, 50, 70, -1, true}}) {
    const RandomModel model(shape, 5);
    std::mt19937 random(7);
    const TokenBatch batch = random_batch(random, shape, {6}, kSanitized ? 20 : 70);
    for (const ElementType type : kTypes) {
      const auto backend = emulated(model, type);
      const Scores together = run(*backend, *model.checkpoint(), batch, full_plan(*model.checkpoint()));
      for (int s = 0; s < batch.sequences(); ++s) {
        TokenBatch one;
        for (int t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t) {
          one.token_ids.push_back(batch.token_ids[t]);
          one.type_ids.push_back(batch.type_ids[t]);
        }
        one.cu_seqlens = {0, static_cast<int32_t>(one.token_ids.size())};
        one.list_offsets = {0, 1};
        const Scores alone = run(*backend, *model.checkpoint(), one, full_plan(*model.checkpoint()));
        CHECK(std::memcmp(alone.logits.data(), &together.logits[s * together.exits], together.exits * sizeof(float)) == 0);
      }
    }
  }
}

TEST("every kernel keeps to its shared memory, and to what the smallest device gives a block") {
  const cuda::KernelTable& table = cuda::emulator_kernels();
  const auto at_most = [](const cuda::Kernel& kernel, int kibibytes) {
    CHECK(kernel.shared_bytes <= kibibytes << 10);
    CHECK(kernel.shared_bytes <= 64 << 10);  // sm_75
    CHECK(kernel.threads % 32 == 0 && kernel.threads <= 1024);
  };
  const int halves[] = {20, 40, 48}, singles[] = {17, 29, 53};  // by head dimension
  for (const cuda::ElementKernels* kernels : {&table.f32, &table.bf16, &table.f16}) {
    const bool single = kernels == &table.f32;
    for (const cuda::Kernel& gemm : kernels->gemm) at_most(gemm, single ? 48 : 64);
    for (int d = 0; d < 3; ++d) at_most(kernels->attention[d], single ? singles[d] : halves[d]);
    for (int width = 0; width < 2; ++width)
      for (const cuda::Kernel& kernel : {kernels->embed[width], kernels->residual[width], kernels->head[width]}) at_most(kernel, 0);
  }
  for (const cuda::Kernel& kernel : {table.gather, table.map_rows}) at_most(kernel, 0);
  for (const cuda::Kernel& kernel : {table.decide, table.compact}) at_most(kernel, 1);
}

TEST("checkpoints with a pooler, in any stored type, score as the reference does") {
  for (const tiny::Model& tiny_model : {tiny::layerwise_bert("F16"), tiny::bert_classifier("F32"), tiny::xlm_roberta_classifier("BF16")}) {
    const tiny::Directory directory(tiny_model.files());
    const auto checkpoint = Checkpoint::open(directory.path());
    TokenBatch batch;
    batch.token_ids = {1, 2, 3, 4, 5, 6, 7, 1, 2};
    batch.cu_seqlens = {0, 6, 7, 9};
    batch.list_offsets = {0, 3};
    const Scores expected = run(*make_reference_backend(checkpoint), *checkpoint, batch, full_plan(*checkpoint));
    const auto backend = make_cuda_backend(checkpoint, cuda::make_emulator_stream(), ElementType::f32);
    CHECK(largest_difference(run(*backend, *checkpoint, batch, full_plan(*checkpoint)), expected) < 1e-5);
  }
}

}  // namespace
}  // namespace matryoshka::check
