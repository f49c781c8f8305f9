// Another stream, with a log of all that is asked of it: how tests and benchmarks see that nothing crosses between host and
// device within a batch, and what each launch costs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/stream.h"

namespace matryoshka::cuda {

struct Trace {
  /// In order: "allocate", "upload", "run" and then each launch's kernel, "download", "mark", "wait".
  std::vector<std::string> calls;
  /// Of the launches, in order, where they are timed.
  std::vector<std::string> kernels;  ///< products with the shape of their weights: "gemm 384 x 1536"
  std::vector<LaunchCost> costs;

  void clear() { *this = {}; }
};

class TracedStream : public Stream {
 public:
  /// `timed`: every launch alone, which leaves no two batches under way at once.
  TracedStream(std::unique_ptr<Stream> stream, Trace& trace, bool timed) : stream_(std::move(stream)), trace_(trace), timed_(timed) {}

  const KernelTable& kernels() const override { return stream_->kernels(); }
  std::string describe() const override { return stream_->describe(); }
  size_t free_bytes() const override { return stream_->free_bytes(); }
  void* allocate(size_t bytes) override;
  void release(void* memory) override { stream_->release(memory); }
  void* allocate_staging(size_t bytes) override { return stream_->allocate_staging(bytes); }
  void release_staging(void* memory) override { stream_->release_staging(memory); }
  void upload(void* to, const void* from, size_t bytes) override;
  void fill(void* to, uint8_t value, size_t bytes) override { stream_->fill(to, value, bytes); }
  void run(const LaunchSequence& sequence) override;
  void download(void* to, const void* from, size_t bytes) override;
  Mark mark() override;
  void wait(Mark mark) override;
  std::vector<LaunchCost> time(const LaunchSequence& sequence) override { return stream_->time(sequence); }

 private:
  std::unique_ptr<Stream> stream_;
  Trace& trace_;
  const bool timed_;
};

}  // namespace matryoshka::cuda
