// Numbers that depend on their coordinates only: no state to save, the same in any order and on any thread.
#pragma once

#include <cstdint>

namespace matryoshka::train {

/// SplitMix64's finaliser (Steele, Lea, Flood 2014) over a running combination.
inline uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

/// Uniform in [0, 1).
inline double uniform(uint64_t seed, uint64_t a, uint64_t b, uint64_t c) {
  return static_cast<double>(mixed(mixed(mixed(mixed(seed) ^ a) ^ b) ^ c) >> 11) * 0x1p-53;
}

}  // namespace matryoshka::train
