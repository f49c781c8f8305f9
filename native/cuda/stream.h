// One device's work queue and memory: all that the backend asks of CUDA, and all that a test needs to watch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/kernel_table.h"
#include "cuda/launch_sequence.h"

namespace matryoshka::cuda {

/// Allocations, wait, time and describe act at once; everything else is only queued, in three lines that each keep their
/// order: uploads, kernels (with fills), downloads. A kernel waits for every upload queued before it, a download for every
/// kernel queued before it, and nothing else waits: an upload may overtake kernels, so it must go where none of them looks.
class Stream {
 public:
  /// A moment: all that was queued before it has run.
  using Mark = uint64_t;

  virtual ~Stream() = default;

  virtual const KernelTable& kernels() const = 0;
  /// "cuda:0 NVIDIA A100" or "emulator".
  virtual std::string describe() const = 0;

  /// What the device could give now, in bytes.
  virtual size_t free_bytes() const = 0;
  /// Device memory, aligned to 256 bytes; throws ERR_OUT_OF_MEMORY and stays usable.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* memory) = 0;
  /// Host memory that the device copies from and to without the host's help.
  virtual void* allocate_staging(size_t bytes) = 0;
  virtual void release_staging(void* memory) = 0;

  /// Host to device. The memory must stay as it is until the copy has run.
  virtual void upload(void* to, const void* from, size_t bytes) = 0;
  virtual void fill(void* to, uint8_t value, size_t bytes) = 0;
  /// All of it, one after the other; a GPU captures a sequence that comes again once, and replays it as a graph from then on.
  virtual void run(const LaunchSequence& sequence) = 0;
  /// Device to staging memory.
  virtual void download(void* to, const void* from, size_t bytes) = 0;

  virtual Mark mark() = 0;
  /// The host waits for that moment, whatever has been queued since. Throws what went wrong by then.
  virtual void wait(Mark mark) = 0;

  /// As run, but each launch alone and with its time, waited for: for benchmarks.
  virtual std::vector<LaunchCost> time(const LaunchSequence& sequence) = 0;
};

}  // namespace matryoshka::cuda
