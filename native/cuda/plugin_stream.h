// Real GPUs, through the CUDA object where it can be loaded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/element_type.h"
#include "cuda/stream.h"

namespace matryoshka::cuda {

struct Gpu {
  int index = 0;
  std::string name;
  int capability = 0;  ///< 80 for 8.0
  double total_gib = 0;
  int multiprocessors = 0;
  double clock_ghz = 0, gigabytes_second = 0;  ///< 0 where the driver does not say
};

/// What a look for GPUs found: devices, or one line that says why there are none.
struct Gpus {
  std::vector<Gpu> devices;
  std::string reason;   ///< empty where there are devices
  std::string object;   ///< the CUDA object's file, or where it was looked for
  int toolkit = 0, driver = 0;  ///< versions, 13000 for 13.0; 0 where unknown
};

/// Loads the CUDA object, beside the addon, on first use. Never throws.
Gpus find_gpus();

/// Throws ERR_UNSUPPORTED_DEVICE with the reason, ERR_UNSUPPORTED_DTYPE where that GPU does not multiply `type`.
std::unique_ptr<Stream> make_gpu_stream(int index, ElementType type);

}  // namespace matryoshka::cuda
