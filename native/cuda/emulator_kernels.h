// The table of the kernels that the SIMT emulator runs.
#pragma once

#include "cuda/kernel_table.h"

namespace matryoshka::cuda {

const KernelTable& emulator_kernels();

}  // namespace matryoshka::cuda
