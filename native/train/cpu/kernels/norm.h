// Layer norm forth and back, row by row.
#pragma once

#include "train/cpu/kernels/rows.h"

namespace {

using matryoshka::train::NormBackward;
using matryoshka::train::NormForward;

void norm_forward(const NormForward& a) {
  const float n = static_cast<float>(a.n);
  for (int r = 0; r < a.rows; ++r) {
    float* x = reinterpret_cast<float*>(a.hidden.row(r));
    Simd::F total = Simd::zero();
    for (int i = 0; i < a.n; i += Simd::width) {
      Simd::F sum = Simd::load(x + i, a.n - i);
      if (a.branch.data) {
        sum = Simd::add(sum, load_row(a.branch, r, i, a.n - i));
        Simd::store(x + i, sum, a.n - i);
      }
      total = Simd::add(total, sum);
    }
    const Simd::F mean = Simd::set(Simd::sum(total) / n);
    Simd::F square = Simd::zero();
    for (int i = 0; i < a.n; i += Simd::width) {
      const Simd::F d = Simd::keep(Simd::sub(Simd::load(x + i, a.n - i), mean), a.n - i, Simd::zero());
      square = Simd::fma(d, d, square);
    }
    a.inverse[r] = 1 / __builtin_sqrtf(Simd::sum(square) / n + a.eps);
    const Simd::F scale = Simd::set(a.inverse[r]);
    for (int i = 0; i < a.n; i += Simd::width) {
      const Simd::F hat = Simd::mul(Simd::sub(Simd::load(x + i, a.n - i), mean), scale);
      const Simd::F y = Simd::fma(hat, Simd::load(a.weight + i, a.n - i), Simd::load(a.bias + i, a.n - i));
      store_row(a.hat, r, i, hat, a.n - i);
      Simd::store(x + i, y, a.n - i);
      if (a.output.data) store_row(a.output, r, i, y, a.n - i);
    }
  }
}

/// dx = (g - mean(g) - hat mean(g hat)) / deviation with g = dy weight.
void norm_backward(const NormBackward& a) {
  const float n = static_cast<float>(a.n);
  for (int r = 0; r < a.rows; ++r) {
    float* dy = reinterpret_cast<float*>(a.gradient.row(r));
    Simd::F total = Simd::zero(), along = Simd::zero();
    for (int i = 0; i < a.n; i += Simd::width) {
      const Simd::F d = Simd::load(dy + i, a.n - i), hat = load_row(a.hat, r, i, a.n - i);
      const Simd::F g = Simd::mul(d, Simd::load(a.weight + i, a.n - i)), product = Simd::mul(d, hat);
      total = Simd::add(total, g);
      along = Simd::fma(g, hat, along);
      Simd::store(a.weight_gradient + i, Simd::add(Simd::load(a.weight_gradient + i, a.n - i), product), a.n - i);
      Simd::store(a.bias_gradient + i, Simd::add(Simd::load(a.bias_gradient + i, a.n - i), d), a.n - i);
    }
    const Simd::F mean = Simd::set(-Simd::sum(total) / n), slope = Simd::set(-Simd::sum(along) / n), scale = Simd::set(a.inverse[r]);
    for (int i = 0; i < a.n; i += Simd::width) {
      const Simd::F g = Simd::fma(Simd::load(dy + i, a.n - i), Simd::load(a.weight + i, a.n - i), mean);
      const Simd::F dx = Simd::mul(Simd::fma(load_row(a.hat, r, i, a.n - i), slope, g), scale);
      Simd::store(dy + i, dx, a.n - i);
      if (a.branch.data) store_row(a.branch, r, i, dx, a.n - i);
    }
  }
}

}  // namespace
