// One thread's activations for the tile in hand.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/kernels/kernels.h"
#include "model/architecture.h"

namespace matryoshka::cpu {

/// Row strides are an odd number of cache lines, so that the rows a kernel walks in step fall into different cache sets.
inline size_t row_stride(int columns, Element element) {
  const size_t lines = (columns * size_of(element) + 63) / 64;
  return (lines + 1 - lines % 2) * 64;
}

/// What each slot is stored as, and what else GEMMs multiply, for a dtype on an instruction set.
struct Elements {
  Element attention = Element::f32;  ///< query, key_value
  Element wide = Element::f32;       ///< context, mlp
  bool bf16_input = false;
  std::optional<Element> integer_input;  ///< u8 or u16
};

/// Sized for a backend's largest tile. Padding beyond a row's columns stays zero for good.
class Workspace {
 public:
  Workspace() = default;
  Workspace(const Architecture& a, const Elements& elements, int rows, size_t attention_bytes, size_t gemm_bytes) {
    const int widest = std::max(a.hidden, a.intermediate);
    const size_t count = static_cast<size_t>(rows);
    size_t bytes = 0;
    const auto reserve = [&](size_t size) {
      const size_t at = bytes;
      bytes += (size + 63) / 64 * 64;
      return at;
    };
    const auto matrix = [&](Rows2d& m, int columns, Element element) {
      m.element = element;
      m.stride = row_stride(columns, element);
      return reserve(m.stride * count);
    };
    const size_t at_query = matrix(query, a.hidden, elements.attention), at_context = matrix(context, a.hidden, elements.wide),
                 at_branch = matrix(branch, a.hidden, Element::f32), at_mlp = matrix(mlp, a.intermediate, elements.wide),
                 at_bf16 = elements.bf16_input ? matrix(bf16_input, widest, Element::bf16) : 0,
                 at_integers = elements.integer_input ? matrix(integer_input, widest, *elements.integer_input) : 0,
                 at_scale = reserve(sizeof(float) * count), at_zero = reserve(sizeof(int32_t) * count),
                 at_attention = reserve(attention_bytes), at_gemm = reserve(gemm_bytes);
    memory_ = AlignedBuffer(bytes);
    std::fill_n(memory_.data(), bytes, std::byte{0});
    query.data = memory_.data() + at_query;
    context.data = memory_.data() + at_context;
    branch.data = memory_.data() + at_branch;
    mlp.data = memory_.data() + at_mlp;
    bf16_input.data = memory_.data() + at_bf16;
    integer_input.data = memory_.data() + at_integers;
    integer_input.scale = memory_.as<float>(at_scale);
    integer_input.zero = memory_.as<int32_t>(at_zero);
    attention = memory_.data() + at_attention;
    gemm = memory_.as<float>(at_gemm);
  }

  Rows2d query, context, branch, mlp;
  Rows2d bf16_input, integer_input;  ///< the slot being multiplied, where it is not stored as what the weights take
  std::byte* attention = nullptr;
  float* gemm = nullptr;

 private:
  AlignedBuffer memory_;
};

}  // namespace matryoshka::cpu
