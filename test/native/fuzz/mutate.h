// Structure-aware mutation of a checkpoint's files: JSON changes by tokens and members, safetensors by header, length
// and data apart, so that most inputs get past the first check.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tiny_checkpoint.h"

namespace matryoshka::fuzz {

/// splitmix64: the same inputs from the same seed everywhere, which the standard's distributions do not promise.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits();
  size_t below(size_t n) { return static_cast<size_t>(bits() % n); }  ///< n > 0
  bool one_in(size_t n) { return below(n) == 0; }

 private:
  uint64_t state_;
};

/// Valid checkpoints of every kind the loader knows.
std::vector<tiny::Files> seeds();

/// Changes one thing somewhere.
void mutate(tiny::Files& files, Random& random);

}  // namespace matryoshka::fuzz
