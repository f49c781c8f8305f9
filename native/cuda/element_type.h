// The types a model can be computed in on a device, as the host sees them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/kernel_table.h"

namespace matryoshka::cuda {

enum class ElementType : uint8_t { f32, bf16, f16 };

constexpr size_t bytes_of(ElementType type) { return type == ElementType::f32 ? 4 : 2; }
constexpr const char* name_of(ElementType type) {
  return type == ElementType::f32 ? "f32" : type == ElementType::bf16 ? "bf16" : "f16";
}
inline const ElementKernels& kernels_of(const KernelTable& table, ElementType type) {
  return type == ElementType::f32 ? table.f32 : type == ElementType::bf16 ? table.bf16 : table.f16;
}

}  // namespace matryoshka::cuda
