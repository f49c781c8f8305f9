// No round trip: whatever exits, the host waits once a batch and copies once from the device, both at the end, and what
// it queues before does not depend on what happens there.
#include "cuda/stream.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "check.h"
#include "cuda/cuda_backend.h"
#include "cuda/emulator_stream.h"
#include "engine/forward.h"
#include "random_model.h"

namespace matryoshka::check {
namespace {

/// Writes down everything that is asked of another stream.
class WatchedStream final : public cuda::Stream {
 public:
  WatchedStream(std::vector<std::string>& log, const size_t& free) : log_(log), free_(free) {}

  const cuda::KernelTable& kernels() const override { return inner_->kernels(); }
  std::string describe() const override { return inner_->describe(); }
  size_t free_bytes() const override { return free_; }
  void* allocate(size_t bytes) override {
    if (bytes > free_) throw Error("ERR_OUT_OF_MEMORY", "Expected a smaller batch");
    log_.push_back("allocate");
    return inner_->allocate(bytes);
  }
  void release(void* memory) override { inner_->release(memory); }
  void* allocate_staging(size_t bytes) override { return inner_->allocate_staging(bytes); }
  void release_staging(void* memory) override { inner_->release_staging(memory); }
  void upload(void* to, const void* from, size_t bytes) override {
    log_.push_back("upload");
    inner_->upload(to, from, bytes);
  }
  void fill(void* to, uint8_t value, size_t bytes) override { inner_->fill(to, value, bytes); }
  void run(const cuda::LaunchSequence& sequence) override {
    log_.push_back("run " + std::to_string(std::hash<std::string>()(sequence.key())));
    for (size_t i = 0; i < sequence.size(); ++i) log_.push_back(sequence.kernel(i).name);
    inner_->run(sequence);
  }
  void download(void* to, const void* from, size_t bytes) override {
    log_.push_back("download");
    inner_->download(to, from, bytes);
  }
  void wait() override {
    log_.push_back("wait");
    inner_->wait();
  }

 private:
  std::vector<std::string>& log_;
  const size_t& free_;
  std::unique_ptr<cuda::Stream> inner_ = cuda::make_emulator_stream();
};

struct Watched {
  Shape shape{4, 32, 2, 48, 50, 24};
  RandomModel model{shape, 3};
  std::vector<std::string> log;
  size_t free = size_t{1} << 32;
  std::unique_ptr<Backend> backend = make_cuda_backend(model.checkpoint(), std::make_unique<WatchedStream>(log, free), cuda::ElementType::f32);
  std::mt19937 random{5};
  TokenBatch batch = random_batch(random, shape, {4, 3}, 10);

  Scores scores;

  /// What was asked of the stream while a batch ran whose documents stop where |score| is above `first` at the first exit,
  /// or above `later` at another.
  std::vector<std::string> score(double first, double later, int& stopped) {
    ExitPlan plan;
    plan.depth = 4;
    plan.report.assign(4, 1);
    plan.rule.kind = RuleKind::confidence;
    for (int exit = 0; exit < 3; ++exit) {
      ExitHead head;
      head.exit = exit;
      head.sure = exit == 0 ? first : later;
      plan.rule.heads.push_back(head);
    }
    log.clear();
    const std::atomic<bool> cancelled{false};
    CHECK(forward(*backend, *model.checkpoint(), batch, plan, cancelled, scores));
    stopped = 0;
    for (const uint8_t layer : scores.exit_layers) stopped += layer < 4;
    return log;
  }
};

TEST("one wait and one copy from the device a batch, at its end, whether nobody, some or all stop") {
  Watched w;
  int none, some, all;
  w.score(1e30, 1e30, none);  // memory has been allocated by now
  std::vector<double> sureness;
  for (int s = 0; s < 7; ++s) sureness.push_back(std::fabs(w.scores.logits[s * 4]));
  std::sort(sureness.begin(), sureness.end());
  const auto quiet = w.score(1e30, 1e30, none), mixed = w.score(sureness[3], 1e30, some), everybody = w.score(-1, -1, all);
  CHECK_EQ(none, 0);
  CHECK_EQ(some, 3);
  CHECK_EQ(all, 7);
  const auto same_but_for_thresholds = [](std::vector<std::string> log) {
    for (std::string& entry : log)
      if (entry.rfind("run ", 0) == 0) entry = "run";
    return log;
  };
  CHECK(same_but_for_thresholds(quiet) == same_but_for_thresholds(mixed) && same_but_for_thresholds(quiet) == same_but_for_thresholds(everybody));
  CHECK_EQ(std::count(quiet.begin(), quiet.end(), "wait"), 1);
  CHECK_EQ(std::count(quiet.begin(), quiet.end(), "download"), 1);
  CHECK_EQ(std::count(quiet.begin(), quiet.end(), "upload"), 1);
  CHECK_EQ(std::count(quiet.begin(), quiet.end(), "allocate"), 0);
  CHECK_EQ(quiet.front(), "upload");
  CHECK_EQ(quiet[quiet.size() - 2], "download");
  CHECK_EQ(quiet.back(), "wait");
}

TEST("batches under one rule are one launch sequence, byte for byte, whatever their sizes: a GPU captures it once") {
  Watched w;
  int stopped;
  w.batch = random_batch(w.random, w.shape, {9, 8}, 20);
  const auto run_of = [&] {
    const auto log = w.score(1, 1, stopped);
    return *std::find_if(log.begin(), log.end(), [](const std::string& entry) { return entry.rfind("run ", 0) == 0; });
  };
  const std::string first = run_of();
  for (const std::vector<int>& lists : {std::vector<int>{9, 8}, {5}, {1, 2, 3, 4}}) {
    w.batch = random_batch(w.random, w.shape, lists, 20);
    CHECK_EQ(run_of(), first);
  }
  w.batch = random_batch(w.random, w.shape, {400}, 20);  // memory is laid out anew
  const std::string larger = run_of();
  CHECK(larger != first);
  CHECK_EQ(run_of(), larger);
  const auto other_rule = w.score(2, 1, stopped);
  CHECK(std::find(other_rule.begin(), other_rule.end(), larger) == other_rule.end());
}

TEST("a batch that memory does not hold is refused with its code, and the next one is scored") {
  Watched w;
  TokenBatch huge;
  huge.cu_seqlens.resize(300001);
  for (int s = 0; s <= 300000; ++s) huge.cu_seqlens[s] = s * 20;
  huge.list_offsets = {0, 300000};
  CHECK_THROWS_CODE(w.backend->begin(huge, 4, false), "ERR_OUT_OF_MEMORY");
  w.log.clear();
  CHECK_THROWS(w.backend->begin(huge, 4, false), "ERR_OUT_OF_MEMORY", "emulator has 3840 MiB to give, enough for about");
  CHECK(w.log.empty());  // nothing was tried that would fail
  int stopped;
  w.score(-1, -1, stopped);
  CHECK_EQ(stopped, 7);
}

TEST("a cancelled batch is waited for before its staging memory is written again") {
  Watched w;
  w.backend->begin(w.batch, 4, false);
  w.log.clear();
  w.backend->begin(w.batch, 4, false);
  CHECK_EQ(w.log.front(), "wait");
}

}  // namespace
}  // namespace matryoshka::check
