// The launches of one batch as data, so that a device which has seen the same sequence can replay it as one graph.
#pragma once

#include <cstddef>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/kernel_table.h"

namespace matryoshka::cuda {

class LaunchSequence {
 public:
  /// `again`: it is expected to come more than once, so that a graph of it is worth its making.
  explicit LaunchSequence(bool again = true) : again_(again) {}

  void clear() {
    launches_.clear();
    key_.clear();
  }
  /// A kernel over its argument struct, which is copied.
  template <class Args>
  void add(const Kernel& kernel, Args args) {
    static_assert(std::is_trivially_copyable_v<Args>);
#if defined(__GNUC__) && !defined(__clang__)
    __builtin_clear_padding(&args);  // else equal arguments might not be equal bytes
#endif
    append(&kernel.entry, sizeof kernel.entry);
    key_.resize((key_.size() + alignof(std::max_align_t) - 1) / alignof(std::max_align_t) * alignof(std::max_align_t));
    launches_.push_back({&kernel, key_.size()});
    append(&args, sizeof args);
  }

  size_t size() const { return launches_.size(); }
  const Kernel& kernel(size_t i) const { return *launches_[i].kernel; }
  const void* args(size_t i) const { return key_.data() + launches_[i].args; }
  /// Sequences with the same key do the same: the same kernels over the same bytes.
  const std::string& key() const { return key_; }
  bool again() const { return again_; }

 private:
  struct Launch {
    const Kernel* kernel;
    size_t args;  ///< where they are in the key
  };

  void append(const void* from, size_t bytes) { key_.append(static_cast<const char*>(from), bytes); }

  bool again_;
  std::vector<Launch> launches_;
  std::string key_;
};

/// What a launch took where it was measured.
struct LaunchCost {
  float milliseconds = 0;  ///< a GPU's own; of the emulator, which has no time, the host's
  double bytes = 0;        ///< of global memory asked for, in whole sectors, by the emulator's count; 0 on a GPU
};

}  // namespace matryoshka::cuda
