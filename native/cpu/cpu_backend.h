// The CPU backend: packed weights, tiles of whole sequences carried by worker threads, kernels chosen at run time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/backend.h"

namespace matryoshka {

enum class Dtype : uint8_t { f32, bf16, int8 };

struct CpuOptions {
  int threads = 1;
  Dtype dtype = Dtype::f32;
  std::string isa;  ///< "", or one of cpu_isas(): overrides the run-time choice
};

/// Packs the weights once. Throws ERR_INVALID_ARGUMENT for an ISA this machine lacks, ERR_OUT_OF_MEMORY.
std::unique_ptr<Backend> make_cpu_backend(std::shared_ptr<const Checkpoint> checkpoint, const CpuOptions& options);

/// Names of the instruction sets compiled in that this machine can run, best first: amx, avx512, avx2, neon, portable.
std::vector<std::string> cpu_isas();
/// Features the kernels make use of and this machine has, e.g. {"avx512f", "avx512_bf16", "avx512_vnni"}.
std::vector<std::string> cpu_features();

}  // namespace matryoshka
