#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "model/finite.h"
#include "model/tensor.h"

namespace matryoshka {
namespace {

uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// All 65,536 values of a 16-bit type, stored from an odd address.
struct AllHalves {
  std::vector<std::byte> storage = std::vector<std::byte>(2 * 65536 + 1);
  Tensor tensor;

  explicit AllHalves(StoredType type) {
    for (uint32_t i = 0; i < 65536; ++i) {
      const auto half = static_cast<uint16_t>(i);
      std::memcpy(storage.data() + 1 + 2 * i, &half, sizeof half);
    }
    tensor = {"all", type, {65536}, storage.data() + 1};
  }
};

/// IEEE 754 binary16 by its definition.
double value_of_f16(uint32_t half) {
  const int exponent = static_cast<int>(half >> 10 & 31), fraction = static_cast<int>(half & 1023);
  const double magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                           : exponent == 0 ? std::ldexp(fraction, -24)
                                           : std::ldexp(1024 + fraction, exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

TEST("F16 widens exactly, all 65,536 values, by groups and one at a time") {
  const AllHalves all(StoredType::f16);
  std::vector<float> together(65536);
  widen(all.tensor, 0, 65536, together.data());
  for (uint32_t i = 0; i < 65536; ++i) {
    float alone = 0;
    widen(all.tensor, i, 1, &alone);
    CHECK_EQ(bits_of(together[i]), bits_of(alone));
    const double expected = value_of_f16(i);
    if (std::isnan(expected)) {
      CHECK(std::isnan(alone));
    } else {
      CHECK(alone == expected && std::signbit(alone) == std::signbit(expected));
    }
  }
}

TEST("BF16 widens exactly, all 65,536 values: it is the upper half of a float") {
  const AllHalves all(StoredType::bf16);
  std::vector<float> out(65536);
  widen(all.tensor, 0, 65536, out.data());
  for (uint32_t i = 0; i < 65536; ++i) CHECK_EQ(bits_of(out[i]), i << 16);
}

TEST("F32 and I8 widen exactly from any address") {
  const float values[] = {0.f, -0.f, 1e-45f, -3.4e38f, INFINITY, 1.f / 3};
  std::vector<std::byte> storage(sizeof values + 3);
  std::memcpy(storage.data() + 3, values, sizeof values);
  float out[6];
  widen({"f", StoredType::f32, {6}, storage.data() + 3}, 0, 6, out);
  CHECK_EQ(std::memcmp(out, values, sizeof values), 0);

  int8_t bytes[256];
  for (int i = 0; i < 256; ++i) bytes[i] = static_cast<int8_t>(i - 128);
  float wide[256];
  widen({"i", StoredType::i8, {256}, reinterpret_cast<const std::byte*>(bytes)}, 0, 256, wide);
  for (int i = 0; i < 256; ++i) CHECK_EQ(wide[i], static_cast<float>(i - 128));
}

TEST("any slice of a tensor widens to what the whole one does there") {
  const AllHalves all(StoredType::f16);
  std::vector<float> together(65536), slice(64);
  widen(all.tensor, 0, 65536, together.data());
  for (size_t first = 15000; first < 15020; ++first) {
    for (size_t count = 0; count < 40; ++count) {
      slice.assign(64, -1);
      widen(all.tensor, first, count, slice.data());
      for (size_t i = 0; i < 64; ++i) CHECK_EQ(slice[i], i < count ? together[first + i] : -1);
    }
  }
}

TEST("exactly the 16-bit values that are NaN or infinite are found") {
  for (const StoredType type : {StoredType::f16, StoredType::bf16}) {
    const AllHalves all(type);
    for (uint32_t i = 0; i < 65536; ++i) {
      Tensor one = all.tensor;
      one.data += 2 * i;
      one.shape = {1};
      float value = 0;
      widen(one, 0, 1, &value);
      CHECK_EQ(first_not_finite(one).has_value(), !std::isfinite(value));
    }
  }
}

TEST("the first bad element is named wherever it stands, in blocks and in their tails") {
  for (const size_t count : {1u, 2u, 3u, 7u, 8191u, 8192u, 8193u, 20003u}) {
    std::vector<float> values(count, -3.4e38f);
    const Tensor tensor = {
        "f", StoredType::f32, {static_cast<int64_t>(count)}, reinterpret_cast<const std::byte*>(values.data())};
    CHECK(!first_not_finite(tensor));
    for (size_t at = 0; at < count; at += 1 + count / 50) {
      for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
        values[at] = values[count - 1] = bad;
        CHECK_EQ(first_not_finite(tensor).value(), at);
        values[at] = values[count - 1] = 1e-45f;
      }
    }
  }
}

TEST("an empty tensor is finite") {
  CHECK(!first_not_finite({"none", StoredType::f32, {0, 4}, nullptr}));
  widen({"none", StoredType::f16, {0}, nullptr}, 0, 0, nullptr);
}

}  // namespace
}  // namespace matryoshka
