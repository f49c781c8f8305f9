// What one thread of this machine can multiply at most: fused steps on registers alone.
#pragma once

#include "cpu/kernels/kernels.h"

namespace matryoshka::bench {

/// Runs `rounds` rounds of the widest multiply-accumulate there is for a weight format, on registers. Returns the
/// operations (two a product) it took, or 0 where the processor has no such instruction.
double peak(cpu::Format format, long rounds);

}  // namespace matryoshka::bench
