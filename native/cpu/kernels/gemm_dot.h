// What every product is made of: steps over dwords in each precision, and what becomes of sums.
#pragma once

#include "cpu/kernels/math.h"

namespace {

using matryoshka::cpu::Element;
using matryoshka::cpu::Format;
using matryoshka::cpu::Gemm;
using matryoshka::cpu::Panels;
using matryoshka::cpu::Rows2d;

constexpr int kWidth = Simd::width * Simd::vectors;  // columns of a panel
constexpr int kRows = Simd::rows;

/// What turns a column's sum into the product: the bias …
struct FloatColumns {
  Simd::F bias;
  FloatColumns(const Panels& w, int column) : bias(Simd::load(w.bias + column)) {}
  Simd::F value(Simd::F sum, const Rows2d&, int) const { return Simd::add(sum, bias); }
};

/// … and the scales: Σ s (u - z) t q = s t (Σ (u - b) q - (z - b) Σ q), b = dot_bias, exact in integers up to s and t.
struct IntegerColumns {
  Simd::F bias, scale;
  Simd::I sums;
  IntegerColumns(const Panels& w, int column)
      : bias(Simd::load(w.bias + column)), scale(Simd::load(w.scale + column)), sums(Simd::load_int(w.sums + column)) {}
  Simd::F value(Simd::Sum sum, const Rows2d& rows, int row) const {
    const Simd::I offset = Simd::mul_int(Simd::set_int(rows.zero[row] - Simd::dot_bias), sums);
    return Simd::fma(Simd::to_float(Simd::sub_int(Simd::from_sum(sum), offset)), Simd::mul(Simd::set(rows.scale[row]), scale), bias);
  }
};

/// What a step of the micro-kernel does with a dword of a row and a vector of dwords of columns.
struct DotF32 {
  using Acc = Simd::F;
  using Lane = Simd::F;
  static constexpr int per_step = 1;
  static constexpr bool exact = true;
  static Acc zero() { return Simd::zero(); }
  static Lane load(const std::byte* p) { return Simd::load(reinterpret_cast<const float*>(p)); }
  static Lane broadcast(const std::byte* p) { return Simd::set(*reinterpret_cast<const float*>(p)); }
  static Acc step(Acc acc, Lane a, Lane b) { return Simd::fma(a, b, acc); }
  using Columns = FloatColumns;
};

struct IntegerLanes {
  using Lane = Simd::I;
  static constexpr bool exact = false;
  static Lane load(const std::byte* p) { return Simd::load_int(p); }
  static Lane broadcast(const std::byte* p) {
    int32_t x;
    __builtin_memcpy(&x, p, 4);
    return Simd::set_int(x);
  }
};

template <class S>  // a parameter, so that only a Simd that has dot_bf16 is asked for it
struct DotBf16 : IntegerLanes {
  using Acc = Simd::F;
  static constexpr int per_step = 2;
  static Acc zero() { return Simd::zero(); }
  static Acc step(Acc acc, Lane a, Lane b) { return S::dot_bf16(acc, a, b); }
  using Columns = FloatColumns;
};

struct DotIntegers : IntegerLanes {
  using Acc = Simd::Sum;
  static constexpr int per_step = Simd::has_u8_dot ? 4 : 2;
  static Acc zero() { return Acc{}; }
  static Acc step(Acc acc, Lane a, Lane b) { return Simd::dot_integers(acc, a, b); }
  using Columns = IntegerColumns;
};

/// Activates and stores a vector of products, of which `columns` are real.
template <bool exact>
inline __attribute__((always_inline)) void store_products(Element element, Epilogue epilogue, std::byte* row, int column, int columns, Simd::F products) {
  const Simd::F y = activate<exact>(epilogue, products);
  if (element == Element::f32) Simd::store(reinterpret_cast<float*>(row) + column, y, columns);
  else Simd::store_bf16(reinterpret_cast<uint16_t*>(row) + column, y, columns);
}

}  // namespace
