// The kernels of training: products in every layout exactly, attention's gradients honestly, sums of rows in their order.
// What they make together is cuda_train_backend_test's.
#include "cuda/kernels/training/attention_backward.cuh"
#include "cuda/kernels/training/product.cuh"
#include "cuda/kernels/training/rows.cuh"
#include "kernels.h"

namespace matryoshka::cuda {
namespace {

enum class Layout { forward, input_gradient, weight_gradient };

void launch_product(Layout layout, const ProductArgs& args, int blocks) {
  const Grid grid{blocks, ProductTile<Bf16, false, false>::kThreads, ProductTile<Bf16, false, false>::kShared};
  if (layout == Layout::forward) run<ProductArgs, product<Bf16, false, false>>(grid, args);
  else if (layout == Layout::input_gradient) run<ProductArgs, product<Bf16, false, true>>(grid, args);
  else run<ProductArgs, product<Bf16, true, true>>(grid, args);
}

struct Product {
  Layout layout;
  int m, n, k, split;
  Device<Bf16> a, b, elements;
  Device<float> bias, sums;

  Product(std::mt19937& random, Layout layout, int m, int n, int k, int split) : layout(layout), m(m), n(n), k(k), split(split) {
    a = small_integers<Bf16>(random, static_cast<size_t>(m) * k);
    b = small_integers<Bf16>(random, static_cast<size_t>(n) * k);
    bias.resize(n);
    for (float& x : bias) x = static_cast<float>(random() % 9) - 4;
    elements = poisoned<Bf16>(static_cast<size_t>(m + 1) * n);
    sums.assign(static_cast<size_t>(splits()) * m * n + n, 5);
  }
  int splits() const { return (k + split - 1) / split; }
  ProductArgs args() { return {a.data(), b.data(), m, n, k, split, nullptr, nullptr, sums.data(), false}; }
  float exact(int r, int c, int first, int last) const {
    const bool a_rows = layout == Layout::weight_gradient, b_rows = layout != Layout::forward;
    float sum = 0;
    for (int i = first; i < last; ++i)
      sum += to_float(a[a_rows ? static_cast<size_t>(i) * m + r : static_cast<size_t>(r) * k + i]) * to_float(b[b_rows ? static_cast<size_t>(i) * n + c : static_cast<size_t>(c) * k + i]);
    return sum;
  }
};

void check_product(std::mt19937& random, Layout layout, int m, int n, int k, int split, int blocks) {
  under_every_schedule([&] {
    Product p(random, layout, m, n, k, split);
    ProductArgs args = p.args();
    launch_product(layout, args, blocks);
    for (int s = 0; s < p.splits(); ++s)
      for (int r = 0; r < m; ++r)
        for (int c = 0; c < n; ++c) CHECK_EQ(p.sums[(static_cast<size_t>(s) * m + r) * n + c], p.exact(r, c, s * split, std::min(k, (s + 1) * split)));
    for (int c = 0; c < n; ++c) CHECK_EQ(p.sums[static_cast<size_t>(p.splits()) * m * n + c], 5.f);
    if (p.splits() > 1) return;
    args.accumulate = true;
    launch_product(layout, args, blocks);
    args.bias = p.bias.data();
    args.elements = p.elements.data();
    launch_product(layout, args, blocks);
    for (int r = 0; r < m; ++r)
      for (int c = 0; c < n; ++c) {
        const size_t at = static_cast<size_t>(r) * n + c;
        CHECK_EQ(p.sums[at], 2 * p.exact(r, c, 0, k));
        CHECK_EQ(to_float(p.elements[at]), to_float(to_element<Bf16>(p.exact(r, c, 0, k) + p.bias[c])));
      }
    for (int c = 0; c < n; ++c) CHECK(is_poison(p.elements[static_cast<size_t>(m) * n + c]));
  });
}

TEST("a linear, its input's gradient and its weight's: every output is its own row's and column's, around every tile's edge") {
  std::mt19937 random(1);
  for (const int rows : kSanitized ? std::vector<int>{1, 130} : std::vector<int>{1, 31, 127, 128, 129, 260}) {
    check_product(random, Layout::forward, rows, 192, 64, 64, 2);
    check_product(random, Layout::input_gradient, rows, 64, 192, 192, 3);
    check_product(random, Layout::weight_gradient, 192, 64, rows, 1024, 2);
  }
}

TEST("a weight's gradient is summed in splits, each a partial sum of its own") {
  std::mt19937 random(2);
  check_product(random, Layout::weight_gradient, 64, 128, 130, 64, 1);
  check_product(random, Layout::weight_gradient, 128, 64, 96, 32, 2);
}

template <int kDim>
struct Backward {
  using A = AttentionBackward<Bf16, kDim>;
  int heads, tokens = 0, queries;
  bool scoring;
  Device<int> cu_seqlens{0}, work, counts = Device<int>(kCounts);
  Device<Bf16> query, key_value, gradient, query_gradient, key_value_gradient;
  Device<float> sums, deltas;

  Backward(std::mt19937& random, const std::vector<int>& lengths, int heads, bool scoring) : heads(heads), scoring(scoring) {
    for (size_t s = 0; s < lengths.size(); ++s) {
      for (int block = 0; block * A::BM < lengths[s]; ++block) work.push_back(static_cast<int>(s) << kBlockBits | block);
      cu_seqlens.push_back(tokens += lengths[s]);
    }
    counts[kSequences] = static_cast<int>(lengths.size());
    counts[kRows] = tokens;
    counts[kWorkItems] = static_cast<int>(work.size());
    queries = scoring ? counts[kSequences] : tokens;
    const size_t width = static_cast<size_t>(heads) * kDim;
    query = random_elements<Bf16>(random, queries * width);
    key_value = random_elements<Bf16>(random, tokens * 2 * width);
    gradient = random_elements<Bf16>(random, queries * width);
    query_gradient = poisoned<Bf16>((queries + 1) * width);
    key_value_gradient = poisoned<Bf16>((tokens + 1) * 2 * width);
    sums.resize(static_cast<size_t>(queries) * heads);
    deltas.resize(sums.size());
  }

  void launch(int blocks) {
    AttentionBackwardArgs args{};
    args.query = query.data();
    args.key_value = key_value.data();
    args.active = {counts.data(), nullptr, cu_seqlens.data(), nullptr, nullptr, work.data()};
    args.scoring = scoring;
    args.heads = args.key_heads = heads;
    args.scale = 1 / std::sqrt(static_cast<float>(kDim));
    args.context_gradient = gradient.data();
    args.query_gradient = query_gradient.data();
    args.key_value_gradient = key_value_gradient.data();
    args.sums = sums.data();
    args.deltas = deltas.data();
    run<AttentionBackwardArgs, attention_query_gradient<Bf16, kDim>>({blocks, A::kThreads, A::kShared}, args);
    run<AttentionBackwardArgs, attention_key_gradient<Bf16, kDim>>({blocks, A::kThreads, A::kShared}, args);
  }

  const Bf16* row(const Device<Bf16>& m, int r, int h, int parts = 1, int part = 0) const { return &m[((static_cast<size_t>(r) * parts + part) * heads + h) * kDim]; }
  static double dot(const Bf16* a, const Bf16* b) {
    double sum = 0;
    for (int d = 0; d < kDim; ++d) sum += static_cast<double>(to_float(a[d])) * to_float(b[d]);
    return sum;
  }
  static double rounded(double x) { return to_float(to_element<Bf16>(static_cast<float>(x))); }

  /// The formulas above the kernels in double, and with P and dS rounded to elements.
  void check() const {
    HonestBound bound;
    const double scale = 1 / std::sqrt(static_cast<double>(kDim));
    for (int s = 0; s < counts[kSequences]; ++s)
      for (int h = 0; h < heads; ++h) {
        const int first = cu_seqlens[s], keys = cu_seqlens[s + 1] - first, first_query = scoring ? s : first, rows = scoring ? 1 : keys;
        std::vector<double> p(rows * keys), ds(rows * keys);
        for (int r = 0; r < rows; ++r) {
          double sum = 0, delta = 0;
          for (int t = 0; t < keys; ++t) sum += p[r * keys + t] = std::exp(scale * dot(row(query, first_query + r, h), row(key_value, first + t, h, 2, 0)));
          for (int t = 0; t < keys; ++t) {
            p[r * keys + t] /= sum;
            ds[r * keys + t] = dot(row(gradient, first_query + r, h), row(key_value, first + t, h, 2, 1));
            delta += p[r * keys + t] * ds[r * keys + t];
          }
          for (int t = 0; t < keys; ++t) ds[r * keys + t] = p[r * keys + t] * (ds[r * keys + t] - delta);
        }
        for (int d = 0; d < kDim; ++d) {
          for (int r = 0; r < rows; ++r) {
            double exact = 0, honest = 0;
            for (int t = 0; t < keys; ++t) {
              const double k = to_float(row(key_value, first + t, h, 2, 0)[d]);
              exact += scale * ds[r * keys + t] * k;
              honest += scale * rounded(ds[r * keys + t]) * k;
            }
            bound.add(to_float(row(query_gradient, first_query + r, h)[d]), rounded(honest), exact);
          }
          for (int t = 0; t < keys; ++t) {
            double key = 0, honest_key = 0, value = 0, honest_value = 0;
            for (int r = 0; r < rows; ++r) {
              const double q = to_float(row(query, first_query + r, h)[d]), g = to_float(row(gradient, first_query + r, h)[d]);
              key += scale * ds[r * keys + t] * q;
              honest_key += scale * rounded(ds[r * keys + t]) * q;
              value += p[r * keys + t] * g;
              honest_value += rounded(p[r * keys + t]) * g;
            }
            bound.add(to_float(row(key_value_gradient, first + t, h, 2, 0)[d]), rounded(honest_key), key);
            bound.add(to_float(row(key_value_gradient, first + t, h, 2, 1)[d]), rounded(honest_value), value);
          }
        }
      }
    bound.check("attention's gradients");
    for (int i = 0; i < heads * kDim; ++i) CHECK(is_poison(query_gradient[static_cast<size_t>(queries) * heads * kDim + i]));
    for (int i = 0; i < 2 * heads * kDim; ++i) CHECK(is_poison(key_value_gradient[static_cast<size_t>(tokens) * 2 * heads * kDim + i]));
  }
};

template <int kDim>
void check_attention(const std::vector<int>& lengths, int heads) {
  for (const bool scoring : {false, true})
    under_every_schedule([&] {
      std::mt19937 random(3);
      Backward<kDim> problem(random, lengths, heads, scoring);
      problem.launch(3);
      problem.check();
    });
}

TEST("attention's gradients are as near as honest ones: for every head width, short and long sequences, scoring rows") {
  if (kSanitized) {
    check_attention<32>({3, 70}, 2);
    return check_attention<128>({40}, 1);
  }
  check_attention<32>({1, 2, 63, 64, 65, 150}, 2);
  check_attention<64>({5, 64, 130}, 1);
  check_attention<128>({1, 33, 70}, 1);
}

TEST("rows are summed where they are told to, in segments and by index") {
  std::mt19937 random(4);
  constexpr int kRows = 37, kWidth = 264;
  const auto x = small_integers<Bf16>(random, kRows * kWidth), y = small_integers<Bf16>(random, kRows * kWidth);
  Device<float> wide(x.size());
  for (size_t i = 0; i < x.size(); ++i) wide[i] = to_float(x[i]);
  Device<int> index(kRows), starts{0, 1, 20, 37}, place{4, 0, 2};
  for (int i = 0; i < kRows; ++i) index[i] = (i * 11) % kRows;
  const Grid grid{2, kRowThreads, 0};

  SumRowsArgs args{};
  args.in = wide.data();
  args.times = y.data();
  args.segment = 16;
  args.count = kRows;
  args.outputs = 3;
  args.width = kWidth;
  Device<float> out(5 * kWidth, 1);
  args.out = out.data();
  args.accumulate = true;
  run<SumRowsArgs, sum_rows<Bf16, true>>(grid, args);
  for (int s = 0; s < 3; ++s)
    for (int c = 0; c < kWidth; ++c) {
      float expected = 1;
      for (int r = s * 16; r < std::min(kRows, (s + 1) * 16); ++r) expected += to_float(x[r * kWidth + c]) * to_float(y[r * kWidth + c]);
      CHECK_EQ(out[s * kWidth + c], expected);
    }

  args = {};
  args.in = x.data();
  args.index = index.data();
  args.starts = starts.data();
  args.outputs = 3;
  args.place = place.data();
  args.out = out.data();
  args.width = kWidth;
  run<SumRowsArgs, sum_rows<Bf16, false>>(grid, args);
  for (int s = 0; s < 3; ++s)
    for (int c = 0; c < kWidth; ++c) {
      float expected = 0;
      for (int i = starts[s]; i < starts[s + 1]; ++i) expected += to_float(x[index[i] * kWidth + c]);
      CHECK_EQ(out[place[s] * kWidth + c], expected);
    }
}

TEST("no shared access of products and attention's gradients conflicts") {
  needs_emulator();
  std::mt19937 random(5);
  const Setting<bool> setting(simt::options.trace, true);
  for (const Layout layout : {Layout::forward, Layout::input_gradient, Layout::weight_gradient}) {
    Product p(random, layout, 128, 128, 64, 64);
    simt::counters = {};
    launch_product(layout, p.args(), 1);
    CHECK_EQ(simt::counters.shared_wavefronts, simt::counters.shared_ideal);
  }
  Backward<32> narrow(random, {128}, 1, false);
  Backward<64> middle(random, {128}, 1, false);
  Backward<128> wide(random, {64}, 1, false);
  simt::counters = {};
  narrow.launch(1);
  middle.launch(1);
  wide.launch(1);
  CHECK_EQ(simt::counters.shared_wavefronts, simt::counters.shared_ideal);
}

}  // namespace
}  // namespace matryoshka::cuda
