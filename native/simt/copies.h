// cp.async: 16-byte copies from global to shared memory that land when a wait says so, or earlier.
//
// The bytes move here, in code that the sanitizers watch, on the thread that asked; the lists of what is in flight are
// kept apart.
#pragma once

#include <cstdint>

#include "simt/block.h"
#include "simt/memory.h"
#include "simt/sanitizers.h"

namespace matryoshka::simt {

struct Copy {
  char* to;
  const char* from;
  bool valid;  ///< false: zeroes arrive instead
};

/// Checks the addresses; true where this copy is to land at once, else it is in flight.
bool issue_copy(const Copy& copy);
void close_copy_group();
/// The next copy that must land so that at most `groups` groups stay in flight, or false.
bool next_due_copy(int groups, Copy& copy);

/// Sixteen bytes moved by plain loads and stores, which the race detector sees; it does not see an inlined memcpy.
struct __attribute__((may_alias)) Sixteen {
  uint64_t low, high;
};

inline void land(const Copy& copy) {
  asan_unpoison(copy.to, 16);
  *reinterpret_cast<Sixteen*>(copy.to) = copy.valid ? *reinterpret_cast<const Sixteen*>(copy.from) : Sixteen{0, 0};
}

inline void cp_async16(void* to, const void* from, bool valid, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const Copy copy{static_cast<char*>(to), static_cast<const char*>(from), valid};
  if (valid) trace(Space::global, from, 16, {file, line});
  trace(Space::shared, to, 16, {file, line});
  if (issue_copy(copy)) return land(copy);
  // The old contents are gone and the new ones have not come: nobody may look.
  if (SIMT_ASAN) asan_poison(to, 16);
  else *static_cast<Sixteen*>(to) = Sixteen{~uint64_t{0}, ~uint64_t{0}};
}

inline void cp_async_commit() { close_copy_group(); }

template <int kGroups>
void cp_async_wait() {
  Copy copy;
  while (next_due_copy(kGroups, copy)) land(copy);
}

}  // namespace matryoshka::simt
