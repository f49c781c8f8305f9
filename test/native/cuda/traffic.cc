// Bytes of global memory that the launches of one layer move, by kernel, as the emulator counts them: JSON for
// bench/roofline.ts. Not a test: `cuda_traffic HIDDEN HEADS INTERMEDIATE SEQUENCES TOKENS`.
#include <cstdio>
#include <cstdlib>
#include <map>

#include "cuda/cuda_backend.h"
#include "cuda/emulator_stream.h"
#include "cuda/kernels/gemm.cuh"
#include "engine/forward.h"
#include "random_model.h"
#include "simt/emulator.h"

namespace matryoshka::check {
namespace {

struct Traffic {
  int launches = 0;
  uint64_t bytes = 0;  ///< whole sectors, and what cp.async fetched
};

/// Runs one launch at a time and keeps accounts; GEMMs by the shape of their weights.
class CountingStream final : public cuda::Stream {
 public:
  explicit CountingStream(std::map<std::string, Traffic>& accounts) : accounts_(accounts) {}

  const cuda::KernelTable& kernels() const override { return inner_->kernels(); }
  std::string describe() const override { return inner_->describe(); }
  size_t free_bytes() const override { return inner_->free_bytes(); }
  void* allocate(size_t bytes) override { return inner_->allocate(bytes); }
  void release(void* memory) override { inner_->release(memory); }
  void* allocate_staging(size_t bytes) override { return inner_->allocate_staging(bytes); }
  void release_staging(void* memory) override { inner_->release_staging(memory); }
  void upload(void* to, const void* from, size_t bytes) override { inner_->upload(to, from, bytes); }
  void fill(void* to, uint8_t value, size_t bytes) override { inner_->fill(to, value, bytes); }
  void download(void* to, const void* from, size_t bytes) override { inner_->download(to, from, bytes); }
  void wait() override { inner_->wait(); }

  void run(const cuda::LaunchSequence& sequence) override {
    simt::options.trace = true;
    for (size_t i = 0; i < sequence.size(); ++i) {
      const cuda::Kernel& kernel = sequence.kernel(i);
      std::string name = kernel.name;
      if (name == "gemm") {
        const auto& args = *static_cast<const cuda::GemmArgs*>(sequence.args(i));
        name += " " + std::to_string(args.n) + " x " + std::to_string(args.k);
      }
      simt::counters = {};
      const auto entry = reinterpret_cast<void (*)(const void*)>(const_cast<void*>(kernel.entry));
      simt::launch(entry, sequence.args(i), kernel.one_block ? 1 : 3, kernel.threads, kernel.shared_bytes);
      Traffic& account = accounts_[name];
      ++account.launches;
      account.bytes += simt::counters.async_bytes + 32 * simt::counters.global_sectors;
    }
  }

 private:
  std::map<std::string, Traffic>& accounts_;
  std::unique_ptr<cuda::Stream> inner_ = cuda::make_emulator_stream();
};

int run(int hidden, int heads, int intermediate, int sequences, int tokens) {
  // Two layers: the last one is a peek, the first one what every other layer costs.
  const RandomModel model({2, hidden, heads, intermediate, 100, tokens + 2}, 1);
  std::map<std::string, Traffic> accounts;
  const auto backend = make_cuda_backend(model.checkpoint(), std::make_unique<CountingStream>(accounts), cuda::ElementType::f16);
  TokenBatch batch;
  batch.cu_seqlens = {0};
  for (int s = 0; s < sequences; ++s) {
    for (int t = 0; t < tokens; ++t) batch.token_ids.push_back((s * 7 + t) % 100);
    batch.cu_seqlens.push_back(batch.cu_seqlens.back() + tokens);
  }
  batch.list_offsets = {0, sequences};
  std::map<std::string, Traffic> by_depth[2];
  for (const int depth : {1, 2}) {
    ExitPlan plan;
    plan.depth = depth;
    plan.report = {static_cast<uint8_t>(depth == 1), static_cast<uint8_t>(depth == 2)};
    Scores scores;
    const std::atomic<bool> cancelled{false};
    accounts.clear();
    forward(*backend, *model.checkpoint(), batch, plan, cancelled, scores);
    by_depth[depth - 1] = accounts;
  }
  // What the second layer adds is one whole layer: the peek is in both.
  std::printf("[");
  const char* separator = "";
  for (const auto& [name, both] : by_depth[1]) {
    const Traffic& peek = by_depth[0][name];
    std::printf("%s\n  {\"kernel\": \"%s\", \"launches\": %d, \"bytes\": %llu}", separator, name.c_str(), both.launches - peek.launches,
                static_cast<unsigned long long>(both.bytes - peek.bytes));
    separator = ",";
  }
  std::printf("\n]\n");
  return 0;
}

}  // namespace
}  // namespace matryoshka::check

int main(int count, char** arguments) {
  if (count != 6) {
    std::fprintf(stderr, "Expected HIDDEN HEADS INTERMEDIATE SEQUENCES TOKENS\n");
    return 2;
  }
  const auto number = [&](int i) { return std::atoi(arguments[i]); };
  return matryoshka::check::run(number(1), number(2), number(3), number(4), number(5));
}
