#include "model/finite.h"

#include <algorithm>
#include <cstring>

namespace matryoshka {
namespace {

/// An element is not finite when its exponent bits are all ones, that is, when adding one unit of the exponent to its
/// magnitude carries into the sign bit. The carry never leaves the element, so a 64-bit word tests two or four at once.
struct ExponentTest {
  uint64_t magnitude, unit, carry;
};

constexpr ExponentTest test_of(StoredType type) {
  constexpr uint64_t halves = 0x0001000100010001, words = 0x0000000100000001;
  switch (type) {
    case StoredType::f32:
      return {0x7FFFFFFF * words, 0x00800000 * words, 0x80000000 * words};
    case StoredType::f16:
      return {0x7FFF * halves, 0x0400 * halves, 0x8000 * halves};
    case StoredType::bf16:
      return {0x7FFF * halves, 0x0080 * halves, 0x8000 * halves};
    case StoredType::i8:
      break;
  }
  return {0, 0, 0};
}

uint64_t carries(const ExponentTest& test, const std::byte* at, size_t bytes) {
  uint64_t word = 0;
  std::memcpy(&word, at, bytes);
  return ((word & test.magnitude) + test.unit) & test.carry;
}

}  // namespace

std::optional<size_t> first_not_finite(const Tensor& tensor) {
  if (tensor.type == StoredType::i8) return {};
  constexpr size_t kBlock = 16384;
  const ExponentTest test = test_of(tensor.type);
  const size_t bytes = tensor.bytes(), element = size_of(tensor.type);
  for (size_t block = 0; block < bytes; block += kBlock) {
    const std::byte* at = tensor.data + block;
    const size_t size = std::min(kBlock, bytes - block);
    uint64_t found = 0;
    size_t i = 0;
    for (; i + 8 <= size; i += 8) found |= carries(test, at + i, 8);
    if (i < size) found |= carries(test, at + i, size - i);
    if (!found) continue;
    for (i = 0; !carries(test, at + i, element);) i += element;
    return (block + i) / element;
  }
  return {};
}

}  // namespace matryoshka
