// What the tests of single kernels share: element types on the host, launches under every schedule, honest bounds. g++
// compiles them for the emulator, nvcc for a GPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <random>
#include <vector>

#include "check.h"
#include "cuda/instructions/element.cuh"
#include "cuda/instructions/entry.cuh"
#include "simt/emulator.h"
#include "simt/halves.h"

namespace matryoshka::cuda {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

struct Grid {
  int blocks, threads, shared_bytes;
};

#if defined(__CUDACC__)

constexpr bool kOnGpu = true;

inline void succeed(cudaError_t error) {
  if (error != cudaSuccess) check::fail(__FILE__, __LINE__, cudaGetErrorString(error));
}
inline void* allocate(size_t bytes) {
  void* memory = nullptr;
  succeed(cudaMallocManaged(&memory, bytes ? bytes : 1));
  return memory;
}
inline void release(void* memory) { cudaFree(memory); }

/// Launches once, and waits.
template <class Args, void (*kKernel)(Args)>
void run(const Grid& grid, Args args) {
  const auto kernel = reinterpret_cast<const void*>(kKernel);
  void* parameters[] = {&args};
  if (grid.shared_bytes > 48 << 10) succeed(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, grid.shared_bytes));
  succeed(cudaLaunchKernel(kernel, dim3(grid.blocks), dim3(grid.threads), parameters, grid.shared_bytes, nullptr));
  succeed(cudaDeviceSynchronize());
}

#else

constexpr bool kOnGpu = false;

inline void* allocate(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, bytes ? bytes : 1)) throw std::bad_alloc();
  return memory;
}
inline void release(void* memory) { free(memory); }

/// Launches once.
template <class Args, void (*kKernel)(Args)>
void run(const Grid& grid, const Args& args) {
  simt::launch(&enter<Args, kKernel>, &args, grid.blocks, grid.threads, grid.shared_bytes);
}

#endif

/// For what is counted, or forbidden, by the emulator.
inline void needs_emulator() {
  if (kOnGpu) SKIP("a question to the emulator");
}

/// Memory that kernels may use, aligned as the device's is, so that what is counted does not depend on malloc.
template <class T>
struct DeviceAllocator {
  using value_type = T;
  DeviceAllocator() = default;
  template <class U>
  DeviceAllocator(const DeviceAllocator<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(cuda::allocate(count * sizeof(T))); }
  void deallocate(T* memory, size_t) { release(memory); }
  template <class U>
  bool operator==(const DeviceAllocator<U>&) const { return true; }
  template <class U>
  bool operator!=(const DeviceAllocator<U>&) const { return false; }
};
template <class T>
using Device = std::vector<T, DeviceAllocator<T>>;

template <class E>
E to_element(float x);
template <>
inline float to_element<float>(float x) {
  return x;
}
template <>
inline Bf16 to_element<Bf16>(float x) {
  return {simt::float_to_bf16(x)};
}
template <>
inline F16 to_element<F16>(float x) {
  return {simt::float_to_f16(x)};
}
inline float to_float(float x) { return x; }
inline float to_float(Bf16 x) { return simt::bf16_to_float(x.bits); }
inline float to_float(F16 x) { return simt::f16_to_float(x.bits); }

template <class E>
Device<E> random_elements(std::mt19937& random, size_t count, float deviation = 1) {
  std::normal_distribution<float> normal(0, deviation);
  Device<E> out(count);
  for (E& x : out) x = to_element<E>(normal(random));
  return out;
}
/// Whole numbers from -3 to 3: sums of their products are exact in every type that holds them.
template <class E>
Device<E> small_integers(std::mt19937& random, size_t count) {
  Device<E> out(count);
  for (E& x : out) x = to_element<E>(static_cast<float>(random() % 7) - 3);
  return out;
}
/// Outputs before a kernel ran: NaN, and one row more than the kernel may write.
template <class E>
Device<E> poisoned(size_t count) {
  Device<E> out(count);
  std::memset(static_cast<void*>(out.data()), 0xff, count * sizeof(E));
  return out;
}
template <class E>
bool is_poison(E x) {
  E poison;
  std::memset(&poison, 0xff, sizeof poison);
  return std::memcmp(&x, &poison, sizeof poison) == 0;
}

/// Runs `body` with copies that land at once, in turn; then as late as they may, in random order; then at random.
/// A GPU has its own.
inline void under_every_schedule(const std::function<void()>& body) {
  if (kOnGpu) return body();
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
