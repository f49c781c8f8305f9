// The whole pass on the CPU: near the reference in every precision, the same bits in any company.
#include "cpu/cpu_backend.h"

#include <cmath>
#include <cstring>

#include "check.h"
#include "engine/forward.h"
#include "random_model.h"
#include "reference/reference_backend.h"

using namespace matryoshka;
using namespace matryoshka::check;

namespace {

/// Heads narrower and wider than a vector, and sizes that are no whole number of vectors, panels or pairs.
const std::vector<Shape> kShapes = {{3, 24, 3, 40, 50, 40}, {2, 35, 5, 67, 50, 40}, {2, 128, 2, 200, 50, 150}, {1, 9, 1, 5, 20, 40},
                                   {3, 24, 3, 40, 50, 40, -1, true}, {2, 35, 5, 67, 50, 40, 4, true}};
const Dtype kDtypes[] = {Dtype::f32, Dtype::bf16, Dtype::int8};

Scores score(Backend& backend, const Checkpoint& checkpoint, const TokenBatch& batch) {
  ExitPlan plan;
  plan.depth = checkpoint.exit_layers().back();
  plan.report.assign(checkpoint.exit_layers().size(), 1);
  Scores scores;
  const std::atomic<bool> cancelled{false};
  CHECK(forward(backend, checkpoint, batch, plan, cancelled, scores));
  return scores;
}

/// The sequences of `batch` at these indices as a batch of one list.
TokenBatch pick(const TokenBatch& batch, const std::vector<int>& indices) {
  TokenBatch picked;
  picked.cu_seqlens = {0};
  for (const int s : indices) {
    const int first = batch.cu_seqlens[s], last = batch.cu_seqlens[s + 1];
    picked.token_ids.insert(picked.token_ids.end(), &batch.token_ids[first], &batch.token_ids[first] + last - first);
    picked.type_ids.insert(picked.type_ids.end(), &batch.type_ids[first], &batch.type_ids[first] + last - first);
    picked.cu_seqlens.push_back(picked.cu_seqlens.back() + last - first);
  }
  picked.list_offsets = {0, static_cast<int32_t>(indices.size())};
  return picked;
}

double largest_difference(const Scores& a, const Scores& b) {
  double largest = 0;
  for (size_t i = 0; i < a.logits.size(); ++i) {
    const double difference = std::fabs(a.logits[i] - b.logits[i]);
    if (std::isnan(difference)) return INFINITY;
    if (difference > largest) largest = difference;
  }
  return largest;
}

}  // namespace

TEST("every instruction set scores as the reference does, within its precision") {
  std::mt19937 random(3);
  for (const Shape& shape : kShapes) {
    const RandomModel model(shape, 11);
    const TokenBatch batch = random_batch(random, shape, {9, 4}, shape.positions);
    const auto reference = make_reference_backend(model.checkpoint());
    const Scores expected = score(*reference, *model.checkpoint(), batch);
    for (const std::string& isa : cpu_isas())
      for (const Dtype dtype : kDtypes) {
        const auto backend = make_cpu_backend(model.checkpoint(), {2, dtype, isa});
        const double difference = largest_difference(score(*backend, *model.checkpoint(), batch), expected);
        const double bound = dtype == Dtype::f32 ? 1e-5 : dtype == Dtype::bf16 ? 0.1 : 0.3;  // logits are of the order of 3
        if (!(difference < bound)) fail(__FILE__, __LINE__, backend->describe() + ", hidden " + std::to_string(shape.hidden) + ": off by " + std::to_string(difference));
      }
  }
}

TEST("weights stored as F32, F16 and BF16, with a pooler or a layer's own head, score as the reference does") {
  for (const tiny::Model& tiny_model : {tiny::layerwise_bert("F16"), tiny::layerwise_bert("BF16"), tiny::bert_classifier("F32"), tiny::xlm_roberta_classifier("BF16")}) {
    const tiny::Directory directory(tiny_model.files());
    const auto checkpoint = Checkpoint::open(directory.path());
    TokenBatch batch;
    batch.token_ids = {1, 2, 3, 4, 5, 6, 7, 1, 2};
    batch.cu_seqlens = {0, 6, 7, 9};
    batch.list_offsets = {0, 3};
    const Scores expected = score(*make_reference_backend(checkpoint), *checkpoint, batch);
    for (const std::string& isa : cpu_isas())
      CHECK(largest_difference(score(*make_cpu_backend(checkpoint, {2, Dtype::f32, isa}), *checkpoint, batch), expected) < 1e-5);
  }
}

TEST("a pair's score has the same bits alone, in any batch, at any place and with any number of threads") {
  for (const Shape& shape : {Shape{3, 40, 5, 50, 50, 60}, Shape{3, 40, 5, 50, 50, 60, -1, true}}) {
      const RandomModel model(shape, 5);
    std::mt19937 random(7);
    const TokenBatch pool = random_batch(random, shape, {60}, shape.positions);
    for (const std::string& isa : cpu_isas())
      for (const Dtype dtype : kDtypes) {
        std::vector<std::unique_ptr<Backend>> backends;
        for (const int threads : {1, 2, 3}) backends.push_back(make_cpu_backend(model.checkpoint(), {threads, dtype, isa}));
        Scores alone;
        for (int s = 0; s < pool.sequences(); ++s) {
          const Scores one = score(*backends[0], *model.checkpoint(), pick(pool, {s}));
          alone.logits.insert(alone.logits.end(), one.logits.begin(), one.logits.end());
        }
        for (int round = 0; round < 24; ++round) {
          std::vector<int> indices(1 + random() % 40);
          for (int& s : indices) s = static_cast<int>(random() % 60);
          const Scores together = score(*backends[round % 3], *model.checkpoint(), pick(pool, indices));
          for (size_t i = 0; i < indices.size(); ++i)
            CHECK(std::memcmp(&together.logits[i * together.exits], &alone.logits[indices[i] * together.exits], together.exits * sizeof(float)) == 0);
        }
      }
  }
}

TEST("an instruction set this machine lacks is refused, naming those it has") {
  const RandomModel model(kShapes[0], 1);
  CHECK_THROWS(make_cpu_backend(model.checkpoint(), {1, Dtype::f32, "sse9"}), "ERR_INVALID_ARGUMENT", "portable");
}

TEST("a backend says what it runs on") {
  const RandomModel model(kShapes[0], 1);
  CHECK_EQ(make_cpu_backend(model.checkpoint(), {1, Dtype::f32, "portable"})->describe(), "cpu f32 portable 1 thread");
  CHECK_EQ(make_cpu_backend(model.checkpoint(), {2, Dtype::int8, "portable"})->describe(), "cpu int8 portable 2 threads");
}

TEST("a batch beyond the system's memory is refused with the bytes it wanted, and the backend scores the next one") {
#ifdef __SANITIZE_ADDRESS__
  SKIP("AddressSanitizer ends the process where an allocation fails");
#endif
  const RandomModel model(kShapes[0], 1);
  const auto backend = make_cpu_backend(model.checkpoint(), {2, Dtype::f32, ""});
  TokenBatch huge;
  huge.cu_seqlens = {0, 2000000000};  // only begin sees it, and it reads nothing but sizes
  huge.list_offsets = {0, 1};
  CHECK_THROWS(backend->begin(huge, 1, false), "ERR_OUT_OF_MEMORY", "bytes");
  std::mt19937 random(1);
  score(*backend, *model.checkpoint(), random_batch(random, kShapes[0], {3}, 10));
}
