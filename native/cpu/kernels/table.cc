// The kernels of one instruction set. Compiled once for each, with its flags and MATRYOSHKA_KERNELS naming the table.
#include "cpu/kernels/attention.h"
#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/gemm.h"
#include "cpu/kernels/pack.h"

namespace matryoshka::cpu {

extern const Kernels MATRYOSHKA_KERNELS;
const Kernels MATRYOSHKA_KERNELS = {kWidth, false, pack, gemm, attention, attention_scratch, residual_norm, embed_row, nullptr};

}  // namespace matryoshka::cpu
