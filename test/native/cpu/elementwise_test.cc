// Row passes of every variant of the kernels that this machine runs, against double.
#include <algorithm>

#include "check.h"
#include "kernel_matrix.h"

using namespace matryoshka;
using namespace matryoshka::check;

namespace {

const std::vector<int> kColumns = {1, 3, 8, 17, 64, 131, 384};

/// norm(x) as plain loops in T.
template <class T>
std::vector<T> plain_norm(const std::vector<T>& x, const std::vector<float>& weight, const std::vector<float>& bias, double eps) {
  const T n = static_cast<T>(x.size());
  T mean = 0, square = 0;
  for (const T v : x) mean += v;
  mean /= n;
  for (const T v : x) square += (v - mean) * (v - mean);
  const T scale = 1 / std::sqrt(square / n + static_cast<T>(eps));
  std::vector<T> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
  return y;
}

}  // namespace

TEST("a residual norm is as close to the exact one as plain loops in f32, and a row's bits do not depend on its place") {
  for (const cpu::Variant& variant : cpu::runnable_variants())
    for (const int n : kColumns) {
      const int rows = 5;
      const std::vector<float> h = normal(rows * n, 2, 1), b = normal(rows * n, 1, 2), weight = normal(n, 1, 3), bias = normal(n, 1, 4);
      const Matrix hidden(rows, n, Element::f32, h), branch(rows, n, Element::f32, b), alone(rows, n, Element::f32, h);
      variant.kernels->residual_norm({rows, n, hidden.view(), branch.view(), weight.data(), bias.data(), 1e-5f});
      Errors errors;
      for (int r = 0; r < rows; ++r) {
        variant.kernels->residual_norm({1, n, alone.from(r), branch.from(r), weight.data(), bias.data(), 1e-5f});
        CHECK(hidden.same_row(r, alone, r));
        std::vector<double> exact;
        std::vector<float> honest;
        for (int i = 0; i < n; ++i) {
          exact.push_back(static_cast<double>(h[r * n + i]) + b[r * n + i]);
          honest.push_back(h[r * n + i] + b[r * n + i]);
        }
        const auto y = plain_norm(exact, weight, bias, 1e-5);
        const auto z = plain_norm(honest, weight, bias, 1e-5);
        for (int i = 0; i < n; ++i) errors.add(y[i], hidden.at(r, i), z[i]);
      }
      if (!errors.good(0x1p-22)) fail(__FILE__, __LINE__, variant.name + " " + std::to_string(n) + ": " + errors.text());
    }
}

TEST("an embedding row sums stored f32, f16 and bf16 rows") {
  const uint16_t f16[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x8400};  // 1, -2, 2^-24, 65504, -2^-14
  const double f16_values[] = {1, -2, 0x1p-24, 65504, -0x1p-14};
  const uint16_t bf16[] = {0x3f80, 0xc040, 0x0080, 0x4049, 0x8000};  // 1, -3, 2^-126, 3.140625, -0
  const float f32[] = {0.25f, 1e-3f, -7, 1e4f, 0.1f};
  const std::vector<float> weight(5, 1.5f), bias(5, -0.5f);
  for (const cpu::Variant& variant : cpu::runnable_variants()) {
    std::vector<float> out(5);
    const auto bytes = [](const void* p) { return static_cast<const std::byte*>(p); };
    variant.kernels->embed_row({5, {bytes(f32), StoredType::f32}, {bytes(f16), StoredType::f16}, {bytes(bf16), StoredType::bf16}, out.data(), weight.data(), bias.data(), 1e-5f});
    std::vector<double> sum;
    for (int i = 0; i < 5; ++i) sum.push_back(f32[i] + f16_values[i] + bf16_to_float(bf16[i]));
    const std::vector<double> exact = plain_norm(sum, weight, bias, 1e-5);
    for (int i = 0; i < 5; ++i) CHECK(std::fabs(out[i] - exact[i]) < 1e-5);
  }
}

TEST("a row converted to bf16 is rounded to nearest even") {
  for (const cpu::Variant& variant : cpu::runnable_variants())
    for (const int n : kColumns) {
      const std::vector<float> x = normal(n, 3, 5);
      const Matrix from(1, n, Element::f32, x), to(1, n, Element::bf16);
      variant.kernels->convert(1, n, from.view(), to.view());
      for (int i = 0; i < n; ++i) CHECK_EQ(to.at(0, i), rounded_to_bf16(x[i]));
    }
}

TEST("a row converted to integers is within half a step, and zero stays zero") {
  for (const cpu::Variant& variant : cpu::runnable_variants())
    for (const int n : kColumns)
      for (const float shift : {-5.f, 0.f, 5.f}) {  // all negative, both signs, all positive
        std::vector<float> x = normal(n, 1, 6);
        for (float& v : x) v += shift;
        x[n / 2] = 0;
        const Matrix from(1, n, Element::f32, x), to(1, n, cpu::input_of(variant.kernels->int8));
        variant.kernels->convert(1, n, from.view(), to.view());
        for (int i = 0; i < n; ++i) CHECK(std::fabs(to.at(0, i) - x[i]) <= 0.51 * to.view().scale[0]);
        CHECK_EQ(to.at(0, n / 2), 0.0);
      }
}

TEST("a row of zeros converts to zeros") {
  for (const cpu::Variant& variant : cpu::runnable_variants()) {
    const Matrix from(1, 9, Element::f32, std::vector<float>(9)), to(1, 9, cpu::input_of(variant.kernels->int8));
    variant.kernels->convert(1, 9, from.view(), to.view());
    for (int i = 0; i < 9; ++i) CHECK_EQ(to.at(0, i), 0.0);
  }
}
