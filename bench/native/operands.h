// Operands of a kernel with random content, in memory of their own.
#pragma once

#include <memory>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/cpu_features.h"
#include "cpu/kernels/kernels.h"

namespace matryoshka::bench {

/// A matrix of activations with the row stride that the engine would give it.
struct Matrix {
  Matrix(const cpu::Kernels& kernels, int rows, int columns, cpu::Element element);
  cpu::Rows2d rows;

 private:
  cpu::AlignedBuffer data_;
  std::vector<float> scale_;
  std::vector<int32_t> zero_;
};

/// A packed weight matrix [n, k].
struct Weights {
  Weights(const cpu::Kernels& kernels, cpu::Format format, int n, int k);
  cpu::Panels panels;

 private:
  cpu::AlignedBuffer data_;
  std::vector<float> bias_, scale_;
  std::vector<int32_t> sums_;
};

}  // namespace matryoshka::bench
