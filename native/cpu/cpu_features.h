// What this machine can run, and the kernels for it.
#pragma once

#include <string>
#include <vector>

#include "cpu/kernels/kernels.h"

namespace matryoshka::cpu {

/// One instruction set as users name it, with the best kernels compiled in that this machine can run.
struct Isa {
  std::string name;  ///< "avx512", "avx2", "neon", "portable"
  const Kernels* kernels;
};

/// Runnable here, best first; the last is always "portable".
const std::vector<Isa>& runnable_isas();
/// The one of that name, or the best for "". Throws ERR_INVALID_ARGUMENT listing what there is.
const Isa& choose_isa(const std::string& name);

}  // namespace matryoshka::cpu
