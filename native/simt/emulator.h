// CUDA blocks on one CPU thread: every CUDA thread is a fiber, blocks run one after another, and what the hardware
// leaves open (which warp goes first, when an asynchronous copy lands) is the emulator's to choose.
//
// It models happens-before exactly where ThreadSanitizer watches, and neither time nor weaker memory orders: see
// docs/cuda.md for what that leaves untested.
#pragma once

#include <cstddef>
#include <cstdint>

namespace matryoshka::simt {

/// When cp.async's bytes arrive: at once, only where a wait demands them, or either. "Late" exposes weak waits, "eager"
/// exposes stages overwritten while still read.
enum class CopyMode : uint8_t { eager, late, random };

struct Options {
  CopyMode copies = CopyMode::eager;
  bool shuffle = false;  ///< run ready threads in random order, by `seed`, instead of in turn
  uint64_t seed = 0;
  bool trace = false;    ///< count sectors and bank conflicts of every access; slow
  bool noise = false;    ///< perturb the approximate instructions by the error their manual allows
};

/// What ran since `counters` was last reset. Deterministic for a given launch, so a test can state them.
struct Counters {
  uint64_t launches = 0, blocks = 0, switches = 0, barriers = 0, collectives = 0, mma = 0;
  uint64_t async_bytes = 0;        ///< bytes that cp.async fetched
  uint64_t global_bytes = 0;       ///< with trace: bytes of global memory that threads asked for …
  uint64_t global_sectors = 0;     ///< … and the 32-byte sectors that their warps' requests touched
  uint64_t shared_wavefronts = 0;  ///< with trace: passes over the 32 banks that shared accesses took …
  uint64_t shared_ideal = 0;       ///< … and how few would do

  /// Share of the bytes moved that was asked for; 1 where nothing was.
  double coalesced() const { return global_sectors ? static_cast<double>(global_bytes) / (32.0 * static_cast<double>(global_sectors)) : 1; }
};

/// Both belong to whoever launches; launches of different threads take turns.
extern Options options;
extern Counters counters;

/// Runs entry(args) in blocks × threads CUDA threads. `threads` is a multiple of 32. Throws std::runtime_error where
/// the kernel breaks a rule that hardware would leave undefined: a deadlock, a warp that does not meet, a misaligned or
/// foreign address in a copy.
void launch(void (*entry)(const void* args), const void* args, int blocks, int threads, size_t shared_bytes);

}  // namespace matryoshka::simt
