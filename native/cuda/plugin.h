// The C functions that the CUDA object (matryoshka_cuda.so) exports: a shared object of its own, so that the addon loads
// where there is no CUDA, and C, so that nothing of C++ crosses the border.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "cuda/kernel_table.h"

namespace matryoshka::cuda {

/// Changes with anything that both sides must agree on, above all kernel_table.h and the argument structs.
constexpr int kPluginVersion = 10;

struct PluginDevice {
  char name[128];
  int multiprocessors;
  int capability;  ///< 80 for 8.0
  size_t total_bytes;
  double clock_ghz;         ///< of the multiprocessors, at most; 0 where the driver does not say, as the next
  double gigabytes_second;  ///< of the memory bus
};

struct PluginLaunch {
  const Kernel* kernel;
  const void* args;  ///< copied
};

/// Functions that can fail return null, or a sentence that says why, valid until the thread's next call.
struct Plugin {
  int version;
  int toolkit;  ///< CUDA version it was built with, 13000 for 13.0
  /// `count` is how many devices the driver shows. Neither leaves anything on a device, as a stream does.
  const char* (*devices)(int* count, int* driver);
  const char* (*device)(int index, PluginDevice* out);
  /// A stream of that device.
  const char* (*open)(int index, void** stream);
  void (*close)(void* stream);
  const KernelTable* (*kernels)();
  const char* (*free_bytes)(void* stream, size_t* bytes);
  /// `exhausted` tells whether the reason is a lack of memory.
  const char* (*allocate)(void* stream, size_t bytes, void** memory, bool* exhausted);
  void (*release)(void* stream, void* memory);
  const char* (*allocate_staging)(void* stream, size_t bytes, void** memory, bool* exhausted);
  void (*release_staging)(void* stream, void* memory);
  const char* (*upload)(void* stream, void* to, const void* from, size_t bytes);
  const char* (*fill)(void* stream, void* to, int value, size_t bytes);
  /// One after the other. Sequences with the same key are the same: they become one graph at first sight; without a key, none.
  const char* (*run)(void* stream, const PluginLaunch* launches, size_t count, const char* key, size_t key_bytes);
  const char* (*download)(void* stream, void* to, const void* from, size_t bytes);
  const char* (*mark)(void* stream, uint64_t* mark);
  const char* (*wait)(void* stream, uint64_t mark);
  /// As run, launched one by one, and waits: the milliseconds of each.
  const char* (*time)(void* stream, const PluginLaunch* launches, size_t count, float* milliseconds);
};

/// The one symbol of the object, `matryoshka_cuda_plugin`.
using PluginEntry = const Plugin* (*)();

}  // namespace matryoshka::cuda
