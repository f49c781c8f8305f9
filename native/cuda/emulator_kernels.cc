// The kernels as g++ sees them, for the SIMT emulator.
#include "cuda/emulator_kernels.h"

#include "cuda/kernels/instances.cuh"

namespace matryoshka::cuda {

const KernelTable& emulator_kernels() {
  static const KernelTable table = kernel_table();
  return table;
}

}  // namespace matryoshka::cuda
