// What the tests of single kernels share: element types on the host, launches under every schedule, honest bounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "check.h"
#include "cuda/instructions/element.cuh"
#include "cuda/instructions/entry.cuh"
#include "simt/emulator.h"

namespace matryoshka::cuda {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

template <class E>
E to_element(float x) {
  return E{static_cast<uint16_t>(pack<E>(x, x))};
}
template <>
inline float to_element<float>(float x) {
  return x;
}
template <class E>
float to_float(E x) {
  return unpack<E>(x.bits).low;
}
template <>
inline float to_float<float>(float x) {
  return x;
}

template <class E>
std::vector<E> random_elements(std::mt19937& random, size_t count, float deviation = 1) {
  std::normal_distribution<float> normal(0, deviation);
  std::vector<E> out(count);
  for (E& x : out) x = to_element<E>(normal(random));
  return out;
}
/// Whole numbers from -3 to 3: sums of their products are exact in every type that holds them.
template <class E>
std::vector<E> small_integers(std::mt19937& random, size_t count) {
  std::vector<E> out(count);
  for (E& x : out) x = to_element<E>(static_cast<float>(random() % 7) - 3);
  return out;
}
/// Outputs before a kernel ran: NaN, and one row more than the kernel may write.
template <class E>
std::vector<E> poisoned(size_t count) {
  std::vector<E> out(count);
  std::memset(static_cast<void*>(out.data()), 0xff, count * sizeof(E));
  return out;
}
template <class E>
bool is_poison(E x) {
  E poison;
  std::memset(&poison, 0xff, sizeof poison);
  return std::memcmp(&x, &poison, sizeof poison) == 0;
}

struct Grid {
  int blocks, threads, shared_bytes;
};

/// Launches once.
template <class Args, void (*kKernel)(Args)>
void run(const Grid& grid, const Args& args) {
  simt::launch(&enter<Args, kKernel>, &args, grid.blocks, grid.threads, grid.shared_bytes);
}

/// Runs `body` with copies that land at once, in turn; then as late as they may, in random order; then at random.
inline void under_every_schedule(const std::function<void()>& body) {
  const simt::Options before = simt::options;
  for (const simt::CopyMode copies : {simt::CopyMode::eager, simt::CopyMode::late, simt::CopyMode::random}) {
    simt::options = before;
    simt::options.copies = copies;
    simt::options.shuffle = copies != simt::CopyMode::eager;
    simt::options.seed = 17;
    body();
  }
  simt::options = before;
}

/// Sets one option for as long as it lives.
template <class Value>
class Setting {
 public:
  Setting(Value& place, Value value) : place_(place), before_(place) { place_ = value; }
  ~Setting() { place_ = before_; }
  Setting(const Setting&) = delete;

 private:
  Value& place_;
  Value before_;
};

/// The bound of docs/cuda.md: at most twice as far from the exact values as an honest implementation in the same
/// precision, and never tighter than a few units of float.
class HonestBound {
 public:
  void add(double actual, double honest, double exact) {
    if (!std::isfinite(actual)) broken_ = true;
    actual_ = std::max(actual_, std::fabs(actual - exact));
    honest_ = std::max(honest_, std::fabs(honest - exact));
    scale_ = std::max(scale_, std::fabs(exact));
  }
  void check(const char* what) const {
    if (broken_) check::fail(__FILE__, __LINE__, std::string(what) + ": not finite");
    if (actual_ > 2 * honest_ + 4e-6 * scale_)
      check::fail(__FILE__, __LINE__, std::string(what) + ": off by " + std::to_string(actual_) + ", honest " + std::to_string(honest_));
  }

 private:
  double actual_ = 0, honest_ = 0, scale_ = 0;
  bool broken_ = false;
};

}  // namespace matryoshka::cuda
