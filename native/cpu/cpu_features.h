// What this machine can run, and the kernels for it.
#pragma once

#include <string>
#include <vector>

#include "cpu/kernels/kernels.h"

namespace matryoshka::cpu {

/// The kernels of an instruction set together with some of its extensions.
struct Variant {
  std::string isa;   ///< as users name it: "avx512", "avx2", "neon", "portable"
  std::string name;  ///< "avx512_bf16"
  const Kernels* kernels;
  std::vector<std::string> needs;  ///< features the processor must have
};

/// All that are compiled in and run here, best first; the last is "portable".
const std::vector<Variant>& runnable_variants();
/// The best of that instruction set, or of all for "". Throws ERR_INVALID_ARGUMENT listing what there is.
const Variant& choose_variant(const std::string& isa);

}  // namespace matryoshka::cpu
