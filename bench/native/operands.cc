#include "operands.h"

#include <algorithm>
#include <random>

#include "cpu/workspace.h"

namespace matryoshka::bench {
namespace {

std::vector<float> normal(size_t count, float spread) {
  std::mt19937 random(1);
  std::normal_distribution<float> draw(0, spread);
  std::vector<float> values(count);
  for (float& x : values) x = draw(random);
  return values;
}

}  // namespace

Matrix::Matrix(const cpu::Kernels& kernels, int count, int columns, cpu::Element element) {
  rows.element = element;
  rows.stride = cpu::row_stride(columns, element);
  data_ = cpu::AlignedBuffer(rows.stride * count);
  std::fill_n(data_.data(), rows.stride * count, std::byte{0});
  rows.data = data_.data();
  scale_.assign(count, 1);
  zero_.assign(count, 0);
  rows.scale = scale_.data();
  rows.zero = zero_.data();
  std::vector<float> values = normal(static_cast<size_t>(count) * columns, 1);
  cpu::Rows2d from;
  from.data = reinterpret_cast<std::byte*>(values.data());
  from.stride = sizeof(float) * columns;
  if (element == cpu::Element::f32) {
    for (int r = 0; r < count; ++r) std::copy_n(from.row(r), from.stride, rows.row(r));
  } else {
    kernels.convert(count, columns, from, rows);
  }
}

Weights::Weights(const cpu::Kernels& kernels, cpu::Format format, int n, int k) {
  const int width = kernels.width, count = (n + width - 1) / width;
  panels.format = format;
  panels.n = n;
  panels.k = k;
  panels.panel_bytes = cpu::panel_size(format, k, width);
  data_ = cpu::AlignedBuffer(panels.panel_bytes * count);
  bias_.assign(count * width, 0.1f);
  scale_.resize(count * width);
  sums_.resize(count * width);
  const std::vector<float> values = normal(static_cast<size_t>(n) * k, 0.05f);
  std::vector<float> scratch(static_cast<size_t>(width) * (k + 16));
  std::vector<cpu::StoredRow> rows;
  for (int r = 0; r < n; ++r) rows.push_back({reinterpret_cast<const std::byte*>(&values[static_cast<size_t>(r) * k]), StoredType::f32});
  for (int p = 0; p < count; ++p) {
    kernels.pack({&rows[p * width], std::min(width, n - p * width), k, format, data_.data() + panels.panel_bytes * p, &scale_[p * width],
                  &sums_[p * width], scratch.data()});
  }
  panels.data = data_.data();
  panels.bias = bias_.data();
  panels.scale = scale_.data();
  panels.sums = sums_.data();
}

}  // namespace matryoshka::bench
