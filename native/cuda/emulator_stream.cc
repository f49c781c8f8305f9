#include "cuda/emulator_stream.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <utility>

#include "cuda/emulator_kernels.h"
#include "model/error.h"
#include "simt/emulator.h"

namespace matryoshka::cuda {
namespace {

constexpr int kBlocks = 3;  // of a persistent grid: more than one, and no divisor of common tile counts

void launch(const LaunchSequence& sequence, size_t i) {
  const Kernel& kernel = sequence.kernel(i);
  // POSIX: function pointers survive the way through const void*.
  const auto entry = reinterpret_cast<void (*)(const void*)>(const_cast<void*>(kernel.entry));
  simt::launch(entry, sequence.args(i), kernel.one_block ? 1 : kBlocks, kernel.threads, kernel.shared_bytes);
}

/// Bytes are counted for as long as it lives.
struct Counting {
  const bool before = std::exchange(simt::options.trace, true);
  ~Counting() { simt::options.trace = before; }
};

class EmulatorStream final : public Stream {
 public:
  explicit EmulatorStream(uint32_t seed) : random_(seed) {}

  const KernelTable& kernels() const override { return emulator_kernels(); }
  std::string describe() const override { return "emulator"; }

  size_t free_bytes() const override { return std::numeric_limits<size_t>::max(); }
  void* allocate(size_t bytes) override {
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, bytes ? bytes : 1))
      throw Error("ERR_OUT_OF_MEMORY", "Expected " + std::to_string(bytes) + " bytes for the emulated device but the system gave none");
    return memory;
  }
  void release(void* memory) override { free(memory); }
  void* allocate_staging(size_t bytes) override {
    void* const memory = allocate(bytes);
    staging_[static_cast<const char*>(memory)] = bytes;
    return memory;
  }
  void release_staging(void* memory) override {
    staging_.erase(static_cast<const char*>(memory));
    free(memory);
  }

  void upload(void* to, const void* from, size_t bytes) override {
    queue(kUploads, [=] { std::memcpy(to, from, bytes); });
    if (!is_staging(static_cast<const char*>(from))) finish(kUploads);
  }
  void fill(void* to, uint8_t value, size_t bytes) override {
    queue(kKernels, [=] { std::memset(to, value, bytes); });
  }
  void run(const LaunchSequence& sequence) override {
    queue(kKernels, [sequence] {
      for (size_t i = 0; i < sequence.size(); ++i) launch(sequence, i);
    });
  }
  void download(void* to, const void* from, size_t bytes) override {
    queue(kDownloads, [=] { std::memcpy(to, from, bytes); });
  }

  Mark mark() override { return queued_; }
  void wait(Mark mark) override {
    while (!passed(mark)) advance(static_cast<Line>(random_() % kLines));
    if (failures_.empty() || failures_.begin()->first >= mark) return;
    const std::exception_ptr failure = failures_.begin()->second;
    failures_.erase(failures_.begin(), failures_.lower_bound(mark));
    std::rethrow_exception(failure);
  }

  std::vector<LaunchCost> time(const LaunchSequence& sequence) override {
    finish(kUploads);
    finish(kKernels);
    const Counting counting;
    std::vector<LaunchCost> costs(sequence.size());
    for (size_t i = 0; i < sequence.size(); ++i) {
      simt::counters = {};
      const auto start = std::chrono::steady_clock::now();
      launch(sequence, i);
      costs[i] = {std::chrono::duration<float, std::milli>(std::chrono::steady_clock::now() - start).count(),
                  static_cast<double>(simt::counters.async_bytes + 32 * simt::counters.global_sectors)};
    }
    return costs;
  }

 private:
  enum Line { kUploads, kKernels, kDownloads, kLines };
  struct Work {
    Mark number;
    std::function<void()> run;
  };

  bool is_staging(const char* from) const {
    const auto after = staging_.upper_bound(from);
    return after != staging_.begin() && from < std::prev(after)->first + std::prev(after)->second;
  }

  void queue(Line line, std::function<void()> run) { lines_[line].push_back({queued_++, std::move(run)}); }

  bool passed(Mark mark) const {
    for (const std::deque<Work>& line : lines_)
      if (!line.empty() && line.front().number < mark) return false;
    return true;
  }
  /// Runs the next of a line, unless there is none or it has to wait for the line before.
  void advance(Line line) {
    std::deque<Work>& works = lines_[line];
    if (works.empty()) return;
    if (line > 0 && !lines_[line - 1].empty() && lines_[line - 1].front().number < works.front().number) return;
    const Work work = std::move(works.front());
    works.pop_front();
    try {
      work.run();
    } catch (...) {
      failures_.emplace(work.number, std::current_exception());
    }
  }
  void finish(Line line) {
    while (!lines_[line].empty()) advance(line);
  }

  std::mt19937 random_;
  std::map<const char*, size_t> staging_;
  std::deque<Work> lines_[kLines];
  Mark queued_ = 0;
  std::map<Mark, std::exception_ptr> failures_;  // not yet told, by the number of the work
};

}  // namespace

std::unique_ptr<Stream> make_emulator_stream(uint32_t seed) { return std::make_unique<EmulatorStream>(seed); }

}  // namespace matryoshka::cuda
