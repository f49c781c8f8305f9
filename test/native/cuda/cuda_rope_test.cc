// Rotary positions: every row of queries and keys turned by its own place in its own sequence, and nothing else.
#include "cuda/kernels/rope.cuh"
#include "kernels.h"

namespace matryoshka::cuda {
namespace {

constexpr int kQueryBlock = 32;

/// Queries of sequences of these lengths, or their keys, each row's followed by as many values.
template <class E, int kDim>
struct Rotation {
  int heads, tokens = 0, stride;
  double theta;
  Device<int> cu_seqlens{0}, work, counts = Device<int>(kCounts);
  Device<float> table;
  Device<E> rows;

  Rotation(std::mt19937& random, const std::vector<int>& lengths, int head_count, bool keys, double base)
      : heads(head_count), stride((keys ? 2 : 1) * head_count * kDim), theta(base) {
    int positions = 0;
    for (const int length : lengths) {
      const int s = static_cast<int>(cu_seqlens.size()) - 1;
      for (int b = 0; b * kQueryBlock < length; ++b) work.push_back(s << kBlockBits | b);
      cu_seqlens.push_back(tokens += length);
      positions = std::max(positions, length);
    }
    counts[kSequences] = static_cast<int>(lengths.size());
    counts[kWorkItems] = static_cast<int>(work.size());
    table.resize(static_cast<size_t>(positions) * kDim);
    fill_rope_table(table.data(), positions, kDim, theta);
    rows = random_elements<E>(random, static_cast<size_t>(tokens + 1) * stride);
  }
  /// Turns all rows, or row s as that of sequence s's last token.
  void turn(Device<E>& of, bool scoring) {
    const ActiveSetView active{counts.data(), nullptr, cu_seqlens.data(), nullptr, nullptr, work.data()};
    run<RopeArgs, rope<E, kDim>>({2, kRowThreads, 0}, {active, of.data(), table.data(), scoring, heads, stride, kQueryBlock});
  }

  /// As `apply_rotary_pos_emb` of transformers has it: x · cos + rotate_half(x) · sin, rotate_half(x) = (-x2, x1).
  void add_row(HonestBound& bound, const E* before, const E* after, int position) const {
    for (int i = 0; i < heads * kDim; ++i) {
      const int d = i % kDim, partner = d < kDim / 2 ? i + kDim / 2 : i - kDim / 2;
      const double angle = position * std::pow(theta, -2.0 * (d % (kDim / 2)) / kDim), cos = std::cos(angle), sin = std::sin(angle);
      const float x = to_float(before[i]), other = d < kDim / 2 ? -to_float(before[partner]) : to_float(before[partner]);
      const float honest = x * static_cast<float>(cos) + other * static_cast<float>(sin);
      bound.add(to_float(after[i]), to_float(to_element<E>(honest)), x * cos + other * sin);
    }
  }
};

template <class E, int kDim>
void check_rows(const std::vector<int>& lengths, int heads, bool keys, double theta) {
  under_every_schedule([&] {
    std::mt19937 random(1);
    Rotation<E, kDim> rotation(random, lengths, heads, keys, theta);
    const size_t stride = rotation.stride, end_of_heads = static_cast<size_t>(heads) * kDim;
    Device<E> turned = rotation.rows;
    rotation.turn(turned, false);
    HonestBound bound;
    for (size_t s = 0; s < lengths.size(); ++s)
      for (int t = 0; t < lengths[s]; ++t) {
        const size_t at = (rotation.cu_seqlens[s] + t) * stride;
        rotation.add_row(bound, &rotation.rows[at], &turned[at], t);
        CHECK(std::memcmp(&turned[at] + end_of_heads, &rotation.rows[at] + end_of_heads, (stride - end_of_heads) * sizeof(E)) == 0);
      }
    bound.check("rope");
    CHECK(std::memcmp(&turned[rotation.tokens * stride], &rotation.rows[rotation.tokens * stride], stride * sizeof(E)) == 0);

    // A scoring row is its sequence's last, and has the same bits alone.
    Device<E> scoring = rotation.rows;
    for (size_t s = 0; s < lengths.size(); ++s) std::copy_n(&rotation.rows[(rotation.cu_seqlens[s + 1] - 1) * stride], stride, &scoring[s * stride]);
    rotation.turn(scoring, true);
    for (size_t s = 0; s < lengths.size(); ++s)
      CHECK(std::memcmp(&scoring[s * stride], &turned[(rotation.cu_seqlens[s + 1] - 1) * stride], stride * sizeof(E)) == 0);
    const size_t end = lengths.size() * stride;
    CHECK(std::memcmp(&scoring[end], &rotation.rows[end], (scoring.size() - end) * sizeof(E)) == 0);
  });
}

template <class E, int kDim>
void check_rope(const std::vector<int>& lengths, int heads, double theta) {
  for (const bool keys : {false, true}) check_rows<E, kDim>(lengths, heads, keys, theta);
}

template <class E>
void check_dims() {
  const std::vector<int> lengths = kSanitized ? std::vector<int>{33, 1} : std::vector<int>{5, 64, 1, 130, 33, 63};
  check_rope<E, 64>(lengths, 3, 1e4);
  if (kSanitized) return;
  check_rope<E, 32>(lengths, 17, 1e4);  // more heads than a warp has in hand
  check_rope<E, 128>(lengths, 1, 1e6);
  check_rope<E, 256>({7, 33}, 2, 1e4);
}

TEST("a row's heads are turned by its place in its own sequence, values and other rows are left alone") {
  check_dims<float>();
  check_dims<Bf16>();
  check_dims<F16>();
}

TEST("a thousand tokens on, angles are as good as at the start") {
  if (kSanitized) SKIP("too slow under a sanitizer");
  check_rope<float, 64>({1000, 3}, 1, 1e4);
  check_rope<Bf16, 64>({1000, 3}, 1, 1e4);
  check_rope<F16, 64>({1000, 3}, 1, 1e4);
}

TEST("nobody active is nothing to do") {
  check_rope<float, 64>({}, 1, 1e4);
  check_rope<Bf16, 64>({}, 1, 1e4);
}

template <class E>
void check_memory() {
  const Setting<bool> setting(simt::options.trace, true);
  std::mt19937 random(2);
  Rotation<E, 64> rotation(random, {64}, 12, false, 1e4);
  simt::counters = {};
  rotation.turn(rotation.rows, false);
  CHECK(simt::counters.coalesced() >= 0.9);
}

TEST("rows move through memory in whole sectors") {
  needs_emulator();
  check_memory<float>();
  check_memory<Bf16>();
}

}  // namespace
}  // namespace matryoshka::cuda
