// The training kernels of one instruction set. Compiled once for each, with its flags and MATRYOSHKA_KERNELS naming the
// table.
#include "train/cpu/kernels/activation.h"
#include "train/cpu/kernels/attention.h"
#include "train/cpu/kernels/norm.h"
#include "train/cpu/kernels/rows.h"

namespace matryoshka::train {

extern const TrainKernels MATRYOSHKA_KERNELS;
const TrainKernels MATRYOSHKA_KERNELS = {norm_forward, norm_backward,   activate_rows, activate_backward, attention_backward, attention_backward_scratch,
                                         interleave,   transpose_rows, convert_rows,  accumulate,        row_sums};

}  // namespace matryoshka::train
