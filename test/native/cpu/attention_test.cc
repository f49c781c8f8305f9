// Attention of every variant of the kernels that this machine runs, against softmax in double.
#include <algorithm>

#include "check.h"
#include "kernel_matrix.h"

using namespace matryoshka;
using namespace matryoshka::check;

namespace {

struct Size {
  int keys, heads, dim;
};
// One key; dims that are no whole vector, odd ones, and wider than a panel; keys around vectors and panels.
const std::vector<Size> kSizes = {{1, 1, 1}, {5, 2, 3}, {16, 3, 8}, {17, 2, 16}, {65, 2, 32}, {130, 1, 33}, {63, 1, 64}, {33, 1, 80}, {300, 1, 32}};

struct Case {
  const Kernels& kernels;
  Size size;
  Element element;
  int hidden = size.heads * size.dim;
  Matrix query{size.keys, hidden, element, normal(static_cast<size_t>(size.keys) * hidden, 1.5, 1)};
  Matrix key_value{size.keys, 2 * hidden, element, normal(static_cast<size_t>(size.keys) * 2 * hidden, 1.5, 2)};

  Matrix run(int first, int queries, Element output) const {
    Matrix out(queries, hidden, output);
    const cpu::AlignedBuffer scratch(kernels.attention_scratch(size.keys, size.dim));
    std::memset(scratch.data(), 0xff, scratch.size());
    cpu::Attention call;
    call.queries = queries;
    call.keys = size.keys;
    call.heads = size.heads;
    call.head_dim = size.dim;
    call.query = query.from(first);
    call.key = key_value.view();
    call.value = key_value.view();
    call.value.data += hidden * cpu::size_of(element);
    call.context = out.view();
    call.scratch = scratch.data();
    kernels.attention(call);
    return out;
  }
};

/// One row and head as plain loops in T; weights rounded to bf16 before they meet the values if `narrow`.
template <class T>
std::vector<T> plain(const Case& c, int row, int head, bool narrow) {
  const int dim = c.size.dim, at = head * dim;
  std::vector<T> weight(c.size.keys), out(dim);
  T top = -INFINITY, sum = 0;
  for (int t = 0; t < c.size.keys; ++t) {
    T dot = 0;
    for (int i = 0; i < dim; ++i) dot += static_cast<T>(c.query.at(row, at + i)) * static_cast<T>(c.key_value.at(t, at + i));
    weight[t] = dot / std::sqrt(static_cast<T>(dim));
    top = std::max(top, weight[t]);
  }
  for (T& w : weight) {
    w = std::exp(w - top);
    sum += w;
    if (narrow) w = rounded_to_bf16(static_cast<float>(w));
  }
  for (int i = 0; i < dim; ++i) {
    for (int t = 0; t < c.size.keys; ++t) out[i] += weight[t] * static_cast<T>(c.key_value.at(t, c.hidden + at + i));
    out[i] /= sum;
  }
  return out;
}

std::vector<Element> elements_of(const Kernels& kernels) {
  return kernels.bf16_dot ? std::vector<Element>{Element::f32, Element::bf16} : std::vector<Element>{Element::f32};
}

}  // namespace

TEST("attention is as close to the exact one as plain loops in the same precision, in every size") {
  for (const cpu::Variant& variant : cpu::runnable_variants())
    for (const Element element : elements_of(*variant.kernels))
      for (const Element output : {Element::f32, Element::bf16})
        for (const Size& size : kSizes) {
          const Case c{*variant.kernels, size, element};
          const Matrix out = c.run(0, size.keys, output);
          Errors errors;
          for (int r = 0; r < size.keys; ++r)
            for (int h = 0; h < size.heads; ++h) {
              const std::vector<double> exact = plain<double>(c, r, h, false);
              const std::vector<float> honest = plain<float>(c, r, h, element == Element::bf16);
              for (int i = 0; i < size.dim; ++i)
                errors.add(exact[i], out.at(r, h * size.dim + i), output == Element::bf16 ? rounded_to_bf16(honest[i]) : honest[i]);
            }
          const double unit = output == Element::bf16 ? 0x1p-8 : element == Element::bf16 ? 2e-4 : 0x1p-22;
          if (!errors.good(unit))
            fail(__FILE__, __LINE__, variant.name + (element == Element::f32 ? " f32 " : " bf16 ") + std::to_string(size.keys) + " keys of " +
                                         std::to_string(size.dim) + ": " + errors.text());
        }
}

TEST("a query's context has the same bits alone, as the one scoring row, and among any others") {
  for (const cpu::Variant& variant : cpu::runnable_variants())
    for (const Element element : elements_of(*variant.kernels)) {
      const Case c{*variant.kernels, {41, 2, 20}, element};
      const Matrix all = c.run(0, 41, element);
      for (int queries = 1; queries <= 41; ++queries) {
        const Matrix some = c.run(41 - queries, queries, element);
        for (int r = 0; r < queries; ++r) CHECK(some.same_row(r, all, 41 - queries + r));
      }
    }
}

TEST("weights that overflow any exponential are still a distribution") {
  for (const cpu::Variant& variant : cpu::runnable_variants())
    for (const Element element : elements_of(*variant.kernels)) {
      Case c{*variant.kernels, {20, 1, 16}, element};
      c.query = Matrix(20, 16, element, normal(20 * 16, 300, 1));
      const Matrix out = c.run(0, 20, Element::f32);
      for (int r = 0; r < 20; ++r) {
        const std::vector<double> exact = plain<double>(c, r, 0, false);
        for (int i = 0; i < 16; ++i) CHECK(std::fabs(out.at(r, i) - exact[i]) < (element == Element::f32 ? 1e-3 : 5e-2));
      }
    }
}
