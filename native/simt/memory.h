// Counts what a warp's accesses cost the memory system: sectors of global memory, wavefronts of shared memory.
//
// Lanes run one after another, so an instruction of a warp is put together afterwards: the n-th access of every lane at
// one line of source counts as one. Where lanes diverge before it that pairs wrong accesses, and only worsens the count.
#pragma once

#include <cstddef>
#include <cstdint>

namespace matryoshka::simt {

enum class Space : uint8_t { global, shared };

struct Site {
  const char* file;
  int line;
};

extern bool tracing;
void record_access(Space space, const void* address, int bytes, Site site);

inline void trace(Space space, const void* address, int bytes, Site site) {
  if (__builtin_expect(tracing, 0)) record_access(space, address, bytes, site);
}

/// Turns what the block's warps did into counters, and forgets it.
void settle_accesses();

}  // namespace matryoshka::simt
