// The table of training kernels one instruction set provides: what the way back needs beside the products, which are
// the forward kernels'. Plain data, as cpu/kernels/kernels.h.
#pragma once

#include "cpu/kernels/kernels.h"

namespace matryoshka::train {

using cpu::Element;
using cpu::Epilogue;
using cpu::Rows2d;

/// hidden <- norm(hidden + branch) in f32, remembering what its gradient needs.
struct NormForward {
  int rows = 0, n = 0;
  Rows2d hidden;           ///< f32
  Rows2d branch;           ///< f32, or null for norm(hidden)
  Rows2d hat;              ///< f32 or bf16: the normalised rows, before weight and bias
  Rows2d output;           ///< f32 or bf16: hidden as the next products take it, or null
  float* inverse = nullptr;  ///< [rows] 1 / standard deviation
  const float* weight = nullptr;
  const float* bias = nullptr;
  float eps = 0;
};

/// gradient <- that of the sum under the norm, given that of its result.
struct NormBackward {
  int rows = 0, n = 0;
  Rows2d gradient;  ///< f32
  Rows2d branch;    ///< f32 or bf16: the same once more, as products take it, or null
  Rows2d hat;
  const float* inverse = nullptr;
  const float* weight = nullptr;
  float* weight_gradient = nullptr;  ///< [n], added to
  float* bias_gradient = nullptr;    ///< [n], added to
};

/// output <- f(input); both in the same element type.
struct Activate {
  int rows = 0, n = 0;
  Rows2d input, output;
  Epilogue function = Epilogue::none;
};

/// gradient <- gradient f'(input), and then input <- f(input), which the weights' gradient needs.
struct ActivateBackward {
  int rows = 0, n = 0;
  Rows2d input, gradient;
  Epilogue function = Epilogue::none;
};

/// Gradients of one sequence's attention, all heads; every matrix in the same element type.
struct AttentionBackward {
  int queries = 0, keys = 0;
  int heads = 0, head_dim = 0;
  Rows2d query, key, value;
  Rows2d context_gradient;
  Rows2d query_gradient, key_gradient, value_gradient;
  std::byte* scratch = nullptr;  ///< TrainKernels::attention_scratch bytes
};

/// Rows [0, rows) of some columns of a matrix -> one panel of a product that sums over these rows: a dword holds as many
/// rows as one step of the product takes. Rows and columns beyond the last are zero.
struct Interleave {
  Rows2d source;  ///< f32 or bf16, from its first column on
  int rows = 0, columns = 0;
  bool pairs = false;  ///< bf16 pairs of rows; else f32 of f32
  std::byte* panel = nullptr;
};

/// target[c][first + r] <- source[r][c]; both of the same element type.
struct Transpose {
  int rows = 0, columns = 0;
  Rows2d source, target;
  int first = 0;
};

struct TrainKernels {
  void (*norm_forward)(const NormForward&);
  void (*norm_backward)(const NormBackward&);
  void (*activate)(const Activate&);
  void (*activate_backward)(const ActivateBackward&);
  void (*attention_backward)(const AttentionBackward&);
  size_t (*attention_scratch)(int queries, int keys, int head_dim);
  void (*interleave)(const Interleave&);
  void (*transpose)(const Transpose&);
  void (*convert)(int rows, int n, const Rows2d& from, const Rows2d& to);  ///< f32 -> f32 or bf16
  void (*accumulate)(int rows, int n, const Rows2d& from, const Rows2d& to);  ///< to += from; both f32
  void (*row_sums)(int rows, int n, const Rows2d& from, float* to);           ///< to[r] += Σ of row r
};

}  // namespace matryoshka::train
