// A named, typed, read-only view into a mapped checkpoint file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace matryoshka {

enum class StoredType : uint8_t { f32, f16, bf16, i8 };

constexpr size_t size_of(StoredType type) {
  return type == StoredType::f32 ? 4 : type == StoredType::i8 ? 1 : 2;
}

/// Row-major; `data` points into the mapping and may be unaligned.
struct Tensor {
  std::string name;
  StoredType type = StoredType::f32;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;

  size_t count() const {
    size_t n = 1;
    for (int64_t d : shape) n *= static_cast<size_t>(d);
    return n;
  }
  size_t bytes() const { return count() * size_of(type); }
};

/// Widens `count` stored elements, starting at element `first`, to float. Exact for f32, f16 and bf16.
void widen(const Tensor& tensor, size_t first, size_t count, float* out);
/// All of them.
std::vector<float> widened(const Tensor& tensor);

}  // namespace matryoshka
