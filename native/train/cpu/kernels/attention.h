// The way back through one sequence's attention, head by head, in two passes that each rebuild what they need.
//
// With P = softmax(Q Kᵀ c), O = P V and c = 1 / sqrt(d):  dV = Pᵀ dO,  dS = P ∘ (dO Vᵀ - Σ P ∘ dO Vᵀ) c,  dQ = dS K,
// dK = dSᵀ Q. The first pass goes over rows of queries and gives dQ and what the softmax of each query was; the second
// goes over rows of keys and gives dK and dV. Nothing of size queries × keys is ever stored, and every row's operations
// come in one order.
#pragma once

#include "train/cpu/kernels/rows.h"

namespace {

using matryoshka::train::AttentionBackward;

/// Scratch of one head, in bytes. Panels are those of cpu/kernels/attention.h.
struct BackwardScratch {
  size_t key_panels, value_panels, key_rows;                               // first pass
  size_t query_panels, gradient_panels, query_rows, gradient_rows;         // second pass
  size_t weights, slopes, stride;                                          // kRows rows over queries or keys
  size_t offset, mean;                                                     // [queries]
  size_t out, out_stride;
  size_t end = 0;

  BackwardScratch(int queries, int keys, int dim) {
    const size_t columns = round_up(dim, Simd::width), padded_keys = round_up(keys, kWidth), padded_queries = round_up(queries, kWidth);
    const size_t longest = padded_keys > padded_queries ? padded_keys : padded_queries;
    const auto take = [this](size_t bytes) {
      const size_t at = end;
      end += (bytes + 63) / 64 * 64;
      return at;
    };
    key_panels = take(padded_keys * dim * 4);
    value_panels = take(padded_keys * dim * 4);
    key_rows = take(keys * columns * 4);
    query_panels = take(padded_queries * dim * 4);
    gradient_panels = take(padded_queries * dim * 4);
    query_rows = take(queries * columns * 4);
    gradient_rows = take(queries * columns * 4);
    stride = (longest + 16) * 4;
    weights = take(kMostRows * stride);
    slopes = take(kMostRows * stride);
    offset = take(padded_queries * 4);
    mean = take(padded_queries * 4);
    out_stride = columns * 4;
    out = take(kMostRows * out_stride);
  }
};

size_t attention_backward_scratch(int queries, int keys, int dim) { return BackwardScratch(queries, keys, dim).end; }

/// A row of floats becomes what a product multiplies, in place: never ahead of what is read.
template <class Dot>
inline void store_factor(float* row, int i, Simd::F x) {
  if constexpr (Dot::per_step == 1) Simd::store(row + i, x);
  else Simd::store_bf16(reinterpret_cast<uint16_t*>(row) + i, x, Simd::width);
}

template <class Dot>
class HeadBackward {
 public:
  HeadBackward(const AttentionBackward& a, int head) : a_(a), at_(a.queries, a.keys, a.head_dim), first_(static_cast<size_t>(head) * a.head_dim * kElement) {
    scale_ = 1 / __builtin_sqrtf(static_cast<float>(a.head_dim));
  }

  void run() {
    pack_keys(a_.key, a_.keys, first_, bytes(), memory(at_.key_panels));
    pack_keys(a_.value, a_.keys, first_, bytes(), memory(at_.value_panels));
    pack_values<Dot>(a_.key, a_.keys, first_, a_.head_dim, memory(at_.key_rows));
    blocks(a_.queries, [this](int row, int rows) { queries(row, rows); });
    pack_keys(a_.query, a_.queries, first_, bytes(), memory(at_.query_panels));
    pack_keys(a_.context_gradient, a_.queries, first_, bytes(), memory(at_.gradient_panels));
    pack_values<Dot>(a_.query, a_.queries, first_, a_.head_dim, memory(at_.query_rows));
    pack_values<Dot>(a_.context_gradient, a_.queries, first_, a_.head_dim, memory(at_.gradient_rows));
    blocks(a_.keys, [this](int row, int rows) { keys(row, rows); });
  }

 private:
  static constexpr int kElement = 4 / Dot::per_step;
  int bytes() const { return a_.head_dim * kElement; }
  std::byte* memory(size_t at) const { return a_.scratch + at; }
  float* floats(size_t at) const { return reinterpret_cast<float*>(a_.scratch + at); }

  template <class Body>
  static void blocks(int count, const Body& body) {
    const int number = divide_up(count, Products<Dot>::rows);
    for (int i = 0, row = 0, rows; i < number; ++i, row += rows) body(row, rows = divide_up(count - row, number - i));
  }

  /// out[rows][columns] <- rows of m times panels.
  void against_panels(const Rows2d& m, int row, int rows, size_t panels, int columns, size_t out) const {
    Product p{m.row(row) + first_, m.stride, memory(panels), kWidth * 4, divide_up(bytes(), 4), memory(out), at_.stride};
    for (int c = 0; c < columns; c += kWidth, p.b += static_cast<size_t>(p.steps) * kWidth * 4, p.out += kWidth * 4)
      product_of_(rows, columns - c >= kWidth ? Simd::vectors : divide_up(columns - c, Simd::width), p);
  }

  /// to[row …] <- factors[rows][count] times `values`, which pack_values laid out.
  void against_rows(size_t factors, int rows, int count, size_t values, const Rows2d& to, int row) const {
    const int columns = round_up(a_.head_dim, Simd::width);
    Product p{memory(factors), at_.stride, memory(values), static_cast<size_t>(columns) * 4, divide_up(count, Dot::per_step), memory(at_.out), at_.out_stride};
    for (int c = 0; c < columns; c += kWidth, p.b += kWidth * 4, p.out += kWidth * 4)
      product_of_(rows, columns - c >= kWidth ? Simd::vectors : (columns - c) / Simd::width, p);
    const int first = static_cast<int>(first_ / kElement);
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < a_.head_dim; c += Simd::width)
        store_row(to, row + r, first + c, Simd::load(floats(at_.out + r * at_.out_stride) + c), a_.head_dim - c);
  }

  void queries(int row, int rows) const {
    against_panels(a_.query, row, rows, at_.key_panels, a_.keys, at_.weights);
    against_panels(a_.context_gradient, row, rows, at_.value_panels, a_.keys, at_.slopes);
    for (int r = 0; r < rows; ++r) softmax(floats(at_.weights + r * at_.stride), floats(at_.slopes + r * at_.stride), row + r);
    against_rows(at_.slopes, rows, a_.keys, at_.key_rows, a_.query_gradient, row);
  }

  /// One query over all keys: slopes <- its row of dS; remembers where its softmax lay, and Σ P ∘ dO Vᵀ.
  void softmax(float* scores, float* slopes, int query) const {
    const int keys = a_.keys, whole = keys / Simd::width * Simd::width;
    if (whole < keys) Simd::store(scores + whole, Simd::keep(Simd::load(scores + whole), keys - whole, Simd::set(-3e38f)));
    Simd::F top = Simd::load(scores);
    for (int t = Simd::width; t < keys; t += Simd::width) top = Simd::max(top, Simd::load(scores + t));
    const float factor = kLog2e * scale_, highest = Simd::largest(top) * factor;
    Simd::F sum = Simd::zero(), along = Simd::zero();
    for (int t = 0; t < keys; t += Simd::width) {
      const Simd::F weight = exp2<Dot::exact>(Simd::fma(Simd::load(scores + t), Simd::set(factor), Simd::set(-highest)));
      sum = Simd::add(sum, weight);
      along = Simd::fma(weight, Simd::load(slopes + t), along);
      Simd::store(scores + t, weight);
    }
    const float total = Simd::sum(sum), mean = Simd::sum(along) / total;
    floats(at_.offset)[query] = highest + __builtin_log2f(total);
    floats(at_.mean)[query] = mean;
    const Simd::F scale = Simd::set(scale_ / total);
    for (int t = 0; t < keys; t += Simd::width)
      store_factor<Dot>(slopes, t, Simd::mul(Simd::mul(Simd::load(scores + t), scale), Simd::sub(Simd::load(slopes + t), Simd::set(mean))));
  }

  void keys(int row, int rows) const {
    against_panels(a_.key, row, rows, at_.query_panels, a_.queries, at_.weights);
    against_panels(a_.value, row, rows, at_.gradient_panels, a_.queries, at_.slopes);
    const float *const offset = floats(at_.offset), *const mean = floats(at_.mean);
    const Simd::F factor = Simd::set(kLog2e * scale_), scale = Simd::set(scale_);
    for (int r = 0; r < rows; ++r) {
      float *const scores = floats(at_.weights + r * at_.stride), *const slopes = floats(at_.slopes + r * at_.stride);
      for (int q = 0; q < a_.queries; q += Simd::width) {
        const int count = a_.queries - q;
        const Simd::F power = Simd::sub(Simd::mul(Simd::load(scores + q), factor), Simd::load(offset + q, count));
        const Simd::F weight = Simd::keep(exp2<Dot::exact>(power), count < Simd::width ? count : Simd::width, Simd::zero());
        const Simd::F slope = Simd::mul(Simd::mul(weight, scale), Simd::sub(Simd::load(slopes + q), Simd::load(mean + q, count)));
        store_factor<Dot>(scores, q, weight);
        store_factor<Dot>(slopes, q, slope);
      }
    }
    against_rows(at_.weights, rows, a_.queries, at_.gradient_rows, a_.value_gradient, row);
    against_rows(at_.slopes, rows, a_.queries, at_.query_rows, a_.key_gradient, row);
  }

  const AttentionBackward& a_;
  mutable Products<Dot> product_of_;
  const BackwardScratch at_;
  const size_t first_;  // byte of a row where the head's columns begin
  float scale_;
};

template <class Dot>
void attend_backward(const AttentionBackward& a) {
  for (int head = 0; head < a.heads; ++head) HeadBackward<Dot>(a, head).run();
}

template <class S>
void attend_backward_bf16(const AttentionBackward& a) {
  if constexpr (S::has_bf16) attend_backward<DotBf16<S>>(a);
}

void attention_backward(const AttentionBackward& a) {
  a.query.element == Element::f32 ? attend_backward<DotF32>(a) : attend_backward_bf16<Simd>(a);
}

}  // namespace
