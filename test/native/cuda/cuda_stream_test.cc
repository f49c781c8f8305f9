// No round trip: whatever exits, the host waits once a batch and copies once each way, and what it queues does not depend on
// what happens on the device. Two batches are under way at once, in whatever order the device's lines leave open, and
// neither knows of the other, not even when it fails.
#include "cuda/stream.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <future>

#include "check.h"
#include "cuda/cuda_backend.h"
#include "cuda/emulator_stream.h"
#include "cuda/traced_stream.h"
#include "engine/engine.h"
#include "engine/forward.h"
#include "random_model.h"
#include "simt/block.h"

namespace matryoshka::check {
namespace {

using cuda::LaunchSequence;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr uint32_t kSeeds = 2;
#else
constexpr uint32_t kSeeds = 12;
#endif

/// What a test does to a device.
struct Weather {
  size_t free = size_t{1} << 32;
  bool refuses = false;  ///< launches
  bool breaks = false;   ///< launches run into a kernel that breaks the emulator's rules
  std::vector<std::string> keys;  ///< of the sequences that have run
};

void broken_kernel(const void*) {
  if (simt::position.thread == 0) simt::sync_block();  // nobody else comes
}

class TestStream final : public cuda::TracedStream {
 public:
  TestStream(cuda::Trace& trace, Weather& weather, uint32_t seed) : TracedStream(cuda::make_emulator_stream(seed), trace, false), weather_(weather) {}

  size_t free_bytes() const override { return weather_.free; }
  void* allocate(size_t bytes) override {
    if (bytes > weather_.free) throw Error("ERR_OUT_OF_MEMORY", "Expected a smaller batch");
    return TracedStream::allocate(bytes);
  }
  void run(const LaunchSequence& sequence) override {
    if (weather_.refuses) throw Error("ERR_INTERNAL", "launch refused");
    weather_.keys.push_back(sequence.key());
    if (!weather_.breaks) return TracedStream::run(sequence);
    static const cuda::Kernel kernel{"broken", reinterpret_cast<const void*>(&broken_kernel), 32, 0, true};
    LaunchSequence broken = sequence;
    broken.add(kernel, 0);
    TracedStream::run(broken);
  }

 private:
  Weather& weather_;
};

bool same(const Scores& a, const Scores& b) {
  return a.logits.size() == b.logits.size() && std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)) == 0 &&
         a.exit_layers == b.exit_layers;
}

struct Device {
  Shape shape{4, 32, 2, 48, 50, 24};
  RandomModel model{shape, 3};
  cuda::Trace trace;
  Weather weather;
  std::unique_ptr<Backend> backend;
  std::mt19937 random{5};
  const std::atomic<bool> going{false}, cancelled{true};

  explicit Device(uint32_t seed = 0)
      : backend(make_cuda_backend(model.checkpoint(), std::make_unique<TestStream>(trace, weather, seed), cuda::ElementType::f32)) {}

  const std::vector<std::string>& calls() const { return trace.calls; }
  int count(const std::string& call) const { return static_cast<int>(std::count(calls().begin(), calls().end(), call)); }

  TokenBatch batch(const std::vector<int>& lists, int longest = 10) { return random_batch(random, shape, lists, longest); }
  /// Documents stop where |score| is above `first` at the first exit, or above `later` at another.
  static ExitPlan plan(double first = 1e30, double later = 1e30) {
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
    return plan;
  }

  int begin(const TokenBatch& batch, const ExitPlan& plan) { return begin_forward(*backend, *model.checkpoint(), batch, plan, going); }
  Scores finish(const ExitPlan& plan, int depth) {
    Scores scores;
    finish_forward(*backend, 0, plan, depth, scores);
    return scores;
  }
  Scores score(const TokenBatch& batch, const ExitPlan& plan) {
    trace.clear();
    return finish(plan, begin(batch, plan));
  }
};

TEST("one wait and one copy each way a batch, at its ends, whether nobody, some or all stop") {
  Device d;
  const TokenBatch batch = d.batch({4, 3});
  const Scores first = d.score(batch, d.plan());  // memory has been allocated by now
  std::vector<double> sureness;
  for (int s = 0; s < 7; ++s) sureness.push_back(std::fabs(first.logits[s * 4]));
  std::sort(sureness.begin(), sureness.end());
  std::vector<std::string> quiet;
  const ExitPlan plans[] = {d.plan(), d.plan(sureness[3]), d.plan(-1, -1)};
  const int stops[] = {0, 3, 7};
  for (int i = 0; i < 3; ++i) {
    const Scores scores = d.score(batch, plans[i]);
    CHECK_EQ(static_cast<int>(std::count_if(scores.exit_layers.begin(), scores.exit_layers.end(), [](uint8_t layer) { return layer < 4; })), stops[i]);
    if (i == 0) quiet = d.calls();
    CHECK(d.calls() == quiet);
  }
  const size_t n = quiet.size();
  CHECK_EQ(quiet[0] + " " + quiet[1], "upload run");
  CHECK_EQ(quiet[n - 3] + " " + quiet[n - 2] + " " + quiet[n - 1], "download mark wait");
  for (const char* call : {"upload", "run", "download", "mark", "wait"}) CHECK_EQ(d.count(call), 1);
  CHECK_EQ(d.count("decide"), 3);
  CHECK_EQ(d.count("allocate"), 0);
}

TEST("the host queues a batch before it waits for the one before, and still waits once a batch") {
  Device d;
  const ExitPlan plan = d.plan(0.5, 0.5);
  const TokenBatch a = d.batch({4, 3}), b = d.batch({5});
  const Scores a_alone = d.score(a, plan), b_alone = d.score(b, plan);
  const auto both = [&] {
    d.trace.clear();
    const int a_depth = d.begin(a, plan), b_depth = d.begin(b, plan);
    CHECK_EQ(d.count("wait"), 0);
    CHECK_EQ(d.count("download"), 2);
    CHECK(same(d.finish(plan, a_depth), a_alone));
    CHECK(same(d.finish(plan, b_depth), b_alone));
  };
  both();  // the second place has its memory by now
  both();
  CHECK_EQ(d.backend->capacity(), size_t{2});
  for (const char* call : {"upload", "run", "download", "mark", "wait"}) CHECK_EQ(d.count(call), 2);
  CHECK_EQ(d.count("allocate"), 0);
}

TEST("batches of any size under any rule score alike, one after the other and two at a time, in every order of the lines") {
  for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
    Device alone, together(seed);
    struct Under {
      ExitPlan plan;
      int depth;
      Scores expected;
    };
    std::vector<Under> under_way;
    const auto land = [&] {
      CHECK(same(together.finish(under_way[0].plan, under_way[0].depth), under_way[0].expected));
      under_way.erase(under_way.begin());
    };
    for (int i = 0; i < 8; ++i) {
      // Sizes go up and down, so that memory is laid out anew beside a batch under way.
      std::vector<int> lists(1 + alone.random() % 3);
      for (int& size : lists) size = 1 + static_cast<int>(alone.random() % (i % 3 == 2 ? 40 : 4));
      const TokenBatch batch = alone.batch(lists, 5 + static_cast<int>(alone.random() % 19));
      const double sure = static_cast<double>(alone.random() % 30) / 10;
      ExitPlan plan = Device::plan(sure, sure);
      plan.rule.easy = 0.3f;
      for (int s = 0; i % 2 && s < batch.sequences(); ++s) plan.rule.difficulty.push_back(static_cast<float>(alone.random() % 10) / 10);
      const Scores expected = alone.score(batch, plan);
      if (under_way.size() == together.backend->capacity()) land();
      under_way.push_back({plan, together.begin(batch, plan), expected});
    }
    while (!under_way.empty()) land();
  }
}

TEST("batches under one rule are one launch sequence, byte for byte, whatever their sizes: a GPU captures it once") {
  Device d;
  const auto key_of = [&](const std::vector<int>& lists, double sure = 1) {
    d.score(d.batch(lists, 20), d.plan(sure, 1));
    return d.weather.keys.back();
  };
  const std::string first = key_of({9, 8});
  CHECK(key_of({5}) == first);
  CHECK(key_of({1, 2, 3, 4}) == first);
  const std::string larger = key_of({400});  // memory is laid out anew
  CHECK(larger != first);
  CHECK(key_of({300}) == larger);
  CHECK(key_of({300}, 2) != larger);
  // Of two at a time each has a place of its own, and so a sequence of its own: two graphs, however many batches.
  const TokenBatch batch = d.batch({5}, 20);
  const ExitPlan plan = d.plan(1, 1);
  d.weather.keys.clear();
  for (int round = 0; round < 3; ++round) {
    d.begin(batch, plan);
    const int depth = d.begin(batch, plan);
    d.finish(plan, depth);
    d.finish(plan, depth);
  }
  std::sort(d.weather.keys.begin(), d.weather.keys.end());
  CHECK_EQ(std::unique(d.weather.keys.begin(), d.weather.keys.end()) - d.weather.keys.begin(), 2);
}

TEST("a batch that memory does not hold is refused with its code, and those beside it and after it are scored") {
  Device d;
  TokenBatch huge;
  huge.cu_seqlens.resize(300001);
  for (int s = 0; s <= 300000; ++s) huge.cu_seqlens[s] = s * 20;
  huge.list_offsets = {0, 300000};
  d.trace.clear();
  CHECK_THROWS(d.backend->begin(huge, 4, false), "ERR_OUT_OF_MEMORY", "emulator has 3840 MiB to give, enough for about");
  CHECK(d.calls().empty());  // nothing was tried that would fail
  const ExitPlan plan = d.plan(0.5);
  const TokenBatch batch = d.batch({4, 3});
  const Scores expected = d.score(batch, plan);
  const int depth = d.begin(batch, plan);
  CHECK_THROWS_CODE(d.backend->begin(huge, 4, false), "ERR_OUT_OF_MEMORY");
  d.weather.free = size_t{1} << 28;  // nothing at all is left
  CHECK_THROWS_CODE(d.begin(d.batch({900}), plan), "ERR_OUT_OF_MEMORY");
  CHECK(same(d.finish(plan, depth), expected));
  CHECK(same(d.score(batch, plan), expected));
}

TEST("a batch that is cancelled while it is written down has asked nothing of the device") {
  Device d;
  const ExitPlan plan = d.plan(0.5);
  const TokenBatch batch = d.batch({4, 3}), other = d.batch({6});
  const Scores expected = d.score(batch, plan), other_expected = d.score(other, plan);
  const int depth = d.begin(batch, plan);
  d.trace.clear();
  CHECK_EQ(begin_forward(*d.backend, *d.model.checkpoint(), d.batch({6}), plan, d.cancelled), 0);
  CHECK_EQ(d.count("upload") + d.count("run") + d.count("download") + d.count("wait"), 0);
  const int other_depth = d.begin(other, plan);
  CHECK(same(d.finish(plan, depth), expected));
  CHECK(same(d.finish(plan, other_depth), other_expected));
}

TEST("a batch that the device fails at fails alone") {
  Device d;
  const ExitPlan plan = d.plan(0.5);
  const TokenBatch batch = d.batch({4, 3}), other = d.batch({6});
  const Scores expected = d.score(batch, plan);
  const auto break_one = [&](bool Weather::*how, const TokenBatch& which) {
    d.weather.*how = true;
    int depth = 0;
    try {
      depth = d.begin(which, plan);
    } catch (...) {
      d.weather.*how = false;
      throw;
    }
    d.weather.*how = false;
    return depth;
  };
  const auto deadlocked = [&](const ExitPlan& under, int depth) {
    try {
      d.finish(under, depth);
    } catch (const std::runtime_error& error) {
      return std::string(error.what()).find("deadlock") != std::string::npos;
    }
    return false;
  };
  // Beside a sound one before it: refused at once, or heard of when its own turn comes.
  int sound = d.begin(batch, plan);
  CHECK_THROWS_CODE(break_one(&Weather::refuses, other), "ERR_INTERNAL");
  const int next = d.begin(d.batch({30}), plan);  // in the memory that the refused one was uploaded to, laid out anew
  CHECK(same(d.finish(plan, sound), expected));
  d.finish(plan, next);
  for (const bool larger : {false, true}) {  // than memory was laid out for, so that the host has to wait in between
    int broken = break_one(&Weather::breaks, other);
    sound = d.begin(larger ? d.batch({90}) : batch, plan);
    CHECK(deadlocked(plan, broken));
    const Scores found = d.finish(plan, sound);
    CHECK(larger || same(found, expected));
  }
  sound = d.begin(batch, plan);
  const int broken = break_one(&Weather::breaks, other);
  CHECK(same(d.finish(plan, sound), expected));
  CHECK(deadlocked(plan, broken));
}

/// What an engine made of jobs submitted together.
std::vector<std::shared_ptr<Job>> run_engine(Device& device, const std::vector<std::shared_ptr<Job>>& jobs) {
  std::vector<std::shared_ptr<Job>> done;
  std::promise<void> gate, all;
  Engine engine(
      [&] {
        gate.get_future().wait();  // all jobs are there before the first begins
        return Engine::Model{device.model.checkpoint(), std::move(device.backend)};
      },
      [](const Engine::Model*, const std::string&, const std::string&) {},
      [&](std::shared_ptr<Job> job) {
        done.push_back(std::move(job));
        if (done.size() == jobs.size()) all.set_value();
      });
  for (const auto& job : jobs) engine.submit(job);
  gate.set_value();
  all.get_future().wait();
  return done;
}

TEST("an engine keeps two batches under way, hands them back in order, and fails none for another's sake") {
  Device alone, d(7);
  std::vector<std::shared_ptr<Job>> jobs;
  std::vector<Scores> expected;
  for (uint32_t id = 0; id < 9; ++id) {
    auto job = std::make_shared<Job>();
    job->id = id;
    job->batch = alone.batch({3, static_cast<int>(1 + id)});
    job->plan = Device::plan(0.5, 0.5);
    expected.push_back(alone.score(job->batch, job->plan));
    if (id == 3) job->plan.states = true;  // which the device refuses
    if (id == 5) job->cancelled = true;
    jobs.push_back(std::move(job));
  }
  d.trace.clear();
  const auto done = run_engine(d, jobs);
  double together = 0;
  for (uint32_t id = 0; id < 9; ++id) {
    CHECK_EQ(done[id]->id, id);
    CHECK_EQ(done[id]->error_code, id == 3 ? "ERR_UNSUPPORTED_DEVICE" : id == 5 ? "ERR_ABORTED" : "");
    if (done[id]->error_code.empty()) CHECK(same(done[id]->scores, expected[id]));
    CHECK(done[id]->milliseconds >= 0);
    together += done[id]->milliseconds;
  }
  CHECK(together > 0);
  // Every batch but the first is queued before the one before it is waited for.
  int queued = 0, waited = 0, most = 0;
  for (const std::string& call : d.calls()) {
    queued += call == "mark";
    waited += call == "wait";
    most = std::max(most, queued - waited);
  }
  CHECK_EQ(most, 2);
  CHECK_EQ(queued, 7);
  CHECK_EQ(waited, 7);
}

TEST("a timed trace has every launch of the batch, with its time and bytes, and the same scores") {
  Device d;
  cuda::Trace trace;
  const auto timed = make_cuda_backend(d.model.checkpoint(), std::make_unique<cuda::TracedStream>(cuda::make_emulator_stream(), trace, true), cuda::ElementType::f32);
  const TokenBatch batch = d.batch({4, 3});
  const ExitPlan plan = d.plan(0.5, 0.5);
  d.score(batch, plan);  // memory has been allocated by now
  const Scores expected = d.score(batch, plan);
  trace.clear();
  Scores scores;
  CHECK(forward(*timed, *d.model.checkpoint(), batch, plan, d.going, scores));
  CHECK(same(scores, expected));
  CHECK_EQ(trace.kernels.size(), trace.costs.size());
  CHECK_EQ(std::count(trace.kernels.begin(), trace.kernels.end(), "gemm 128 x 64"), 4);  // keys and values, padded, of four layers
  for (const cuda::LaunchCost& cost : trace.costs) CHECK(cost.milliseconds > 0 && cost.bytes > 0);
  trace.calls.erase(std::remove(trace.calls.begin(), trace.calls.end(), "allocate"), trace.calls.end());
  CHECK(trace.calls == d.calls());
}

}  // namespace
}  // namespace matryoshka::check
