// A model's sizes rounded up to what the kernels take, so that no kernel knows a remainder: what is added is zero in
// weights and activations alike and changes no sum.
#pragma once

#include "cuda/kernel_table.h"
#include "model/architecture.h"

namespace matryoshka::cuda {

struct PaddedShape {
  int hidden = 0;        ///< multiple of 64
  int intermediate = 0;  ///< multiple of 64
  int head_dim = 0;      ///< one of kHeadDims
  int heads = 0;         ///< so many that `attention` is a multiple of 64; those added see zeroes
  int attention = 0;     ///< heads · head_dim: a row of queries, keys, values or context
  int head_dim_index = 0;   ///< into kHeadDims
  int row_width_index = 0;  ///< into kRowWidths

  /// Throws ERR_UNSUPPORTED_ARCHITECTURE for heads or rows wider than any kernel's.
  static PaddedShape of(const Architecture& architecture);
};

}  // namespace matryoshka::cuda
