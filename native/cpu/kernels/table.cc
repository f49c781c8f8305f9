// The kernels of one instruction set. Compiled once for each, with its flags and MATRYOSHKA_KERNELS naming the table.
#include "cpu/kernels/attention.h"
#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/gemm.h"
#include "cpu/kernels/pack.h"

namespace matryoshka::cpu {

extern const Kernels MATRYOSHKA_KERNELS;
const Kernels MATRYOSHKA_KERNELS = {kWidth, Simd::has_bf16, Simd::has_u8_dot ? Format::s8_dot : Format::s16_dot, pack, gemm, gemm_scratch, attention,
                                    attention_scratch, residual_norm, embed_row, convert};

}  // namespace matryoshka::cpu
