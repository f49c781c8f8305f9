// Many matrices in one allocation, sized first and placed then.
#pragma once

#include <cstring>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/workspace.h"

namespace matryoshka::train {

/// Plan with matrix() and array(), then place(). Rows have the backend's strides. The element behind a row of bf16 is zero, because
/// products take pairs, also of a last head whose width is odd; where the stride has no room, the next row's first element lies
/// there. Everything else is uninitialised.
class Arena {
 public:
  void clear() {
    bytes_ = 0;
    matrices_.clear();
    arrays_.clear();
  }
  void matrix(cpu::Rows2d& m, int rows, int columns, cpu::Element element) {
    m = cpu::Rows2d();
    m.element = element;
    m.stride = cpu::row_stride(columns, element);
    matrices_.push_back({&m, reserve(m.stride * rows), rows, columns});
  }
  void array(float*& pointer, size_t count) { arrays_.push_back({&pointer, reserve(count * sizeof(float))}); }

  size_t bytes() const { return bytes_; }
  /// Throws std::bad_alloc, and keeps nothing then.
  void place() {
    if (bytes_ > memory_.size()) {
      memory_ = cpu::AlignedBuffer();
      memory_ = cpu::AlignedBuffer(bytes_ + bytes_ / 8);  // the next batch may be a little larger, and new pages are slow
    }
    for (const Matrix& m : matrices_) {
      m.matrix->data = memory_.data() + m.at;
      if (m.matrix->element != cpu::Element::bf16 || m.columns * 2 == static_cast<int>(m.matrix->stride)) continue;
      for (int r = 0; r < m.rows; ++r) std::memset(m.matrix->row(r) + m.columns * 2, 0, 2);
    }
    for (const Array& a : arrays_) *a.pointer = memory_.as<float>(a.at);
  }

 private:
  struct Matrix {
    cpu::Rows2d* matrix;
    size_t at;
    int rows, columns;
  };
  struct Array {
    float** pointer;
    size_t at;
  };

  size_t reserve(size_t bytes) {
    const size_t at = bytes_;
    bytes_ += (bytes + 63) / 64 * 64;
    return at;
  }

  size_t bytes_ = 0;
  std::vector<Matrix> matrices_;
  std::vector<Array> arrays_;
  cpu::AlignedBuffer memory_;
};

}  // namespace matryoshka::train
