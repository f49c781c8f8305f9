// Random matrices in the kernels' element types, and what each of their values is in double.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/cpu_features.h"
#include "cpu/workspace.h"

namespace matryoshka::check {

using cpu::Element;
using cpu::Kernels;
using cpu::Rows2d;

inline std::vector<float> normal(size_t count, double deviation, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> draw(0.f, static_cast<float>(deviation));
  std::vector<float> values(count);
  for (float& v : values) v = draw(random);
  return values;
}

inline float bf16_to_float(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

/// To nearest even.
inline uint16_t float_to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float rounded_to_bf16(float x) { return bf16_to_float(float_to_bf16(x)); }

/// Rows with the backend's stride. An output starts as NaN everywhere; an input's padding is zero.
class Matrix {
 public:
  Matrix(int rows, int columns, Element element, int fill = 0xff) : columns_(columns) {
    view_.element = element;
    view_.stride = cpu::row_stride(columns, element);
    memory_ = cpu::AlignedBuffer(view_.stride * rows + 64);
    std::memset(memory_.data(), fill, memory_.size());
    view_.data = memory_.data();
    scales_.resize(rows);
    zeros_.resize(rows);
    view_.scale = scales_.data();
    view_.zero = zeros_.data();
  }
  Matrix(int rows, int columns, Element element, const std::vector<float>& values) : Matrix(rows, columns, element, 0) {
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < columns; ++c) {
        const float x = values[static_cast<size_t>(r) * columns + c];
        if (element == Element::f32) reinterpret_cast<float*>(view_.row(r))[c] = x;
        else reinterpret_cast<uint16_t*>(view_.row(r))[c] = float_to_bf16(x);
      }
  }

  const Rows2d& view() const { return view_; }
  Rows2d from(int row) const {
    Rows2d v = view_;
    v.data += row * v.stride;
    v.scale += row;
    v.zero += row;
    return v;
  }
  double at(int row, int column) const {
    switch (view_.element) {
      case Element::f32:
        return reinterpret_cast<const float*>(view_.row(row))[column];
      case Element::bf16:
        return bf16_to_float(reinterpret_cast<const uint16_t*>(view_.row(row))[column]);
      case Element::u8:
        return dequantized(row, reinterpret_cast<const uint8_t*>(view_.row(row))[column]);
      case Element::u16:
        break;
    }
    return dequantized(row, reinterpret_cast<const uint16_t*>(view_.row(row))[column]);
  }
  bool same_row(int row, const Matrix& other, int other_row) const {
    return std::memcmp(view_.row(row), other.view_.row(other_row), columns_ * cpu::size_of(view_.element)) == 0;
  }

 private:
  double dequantized(int row, int stored) const { return static_cast<double>(view_.scale[row]) * (stored - view_.zero[row]); }

  int columns_;
  cpu::AlignedBuffer memory_;
  std::vector<float> scales_;
  std::vector<int32_t> zeros_;
  Rows2d view_;
};

/// Largest errors of a kernel and of an honest implementation in its precision, both against the oracle.
struct Errors {
  double kernel = 0, honest = 0, largest = 0;
  void add(double oracle, double by_kernel, double by_honest) {
    kernel = std::fmax(kernel, std::isfinite(by_kernel) ? std::fabs(by_kernel - oracle) : INFINITY);
    honest = std::fmax(honest, std::fabs(by_honest - oracle));
    largest = std::fmax(largest, std::fabs(oracle));
  }
  /// At most twice the honest error, or a unit in the last place where that is luckily small.
  bool good(double unit) const { return kernel <= 2 * honest + unit * largest; }
  std::string text() const { return "error " + std::to_string(kernel) + ", honest error " + std::to_string(honest); }
};

}  // namespace matryoshka::check
