// The block that is running: what kernels see of themselves, and the ways in which its threads meet.
#pragma once

#include <cstddef>
#include <cstdint>

namespace matryoshka::simt {

/// Of the thread that is running now; written by the scheduler only.
struct Position {
  int thread = 0, block = 0, blocks = 0;
  char* shared = nullptr;
  size_t shared_bytes = 0;
};
extern Position position;

/// All threads of the block meet; memory is ordered.
void sync_block();
/// All lanes of the warp meet; memory is ordered.
void sync_warp();

/// All lanes of the warp meet. The last to arrive runs combine(payloads of lanes 0 … 31), which may write into the
/// others' payloads. Orders no memory, as on the device.
enum class Collective : uint8_t { sync, shuffle, ldmatrix, mma };
void meet(Collective kind, void* payload, void (*combine)(void** lanes));

/// Ends the launch with an error that names the block and thread. The kernel's frames are abandoned.
[[noreturn]] void fault(const char* what);

/// A random number of the launch's seed.
uint64_t random_bits();

}  // namespace matryoshka::simt
