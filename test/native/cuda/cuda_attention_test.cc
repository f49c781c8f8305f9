// The attention kernels: sequences of any length side by side, honest precision, the same bits alone and after a
// compaction; and what decoders ask of them: causal, within a window, capped, heads that share keys.
#include "cuda/kernels/attention_fma.cuh"
#include "cuda/kernels/attention_mma.cuh"
#include "kernels.h"

namespace matryoshka::cuda {
namespace {

template <class E, int kDim>
int query_block() {
  if constexpr (sizeof(E) == 4) return AttentionFma<kDim>::BM;
  else return AttentionMma<E, kDim>::BM;
}

template <class E, int kDim, class Variant = Bidirectional>
void launch_attention(const typename Variant::Args& args) {
  using Args = typename Variant::Args;
  if constexpr (sizeof(E) == 4) run<Args, attention_fma<kDim, Variant>>({3, AttentionFma<kDim>::kThreads, AttentionFma<kDim>::kShared}, args);
  else run<Args, attention_mma<E, kDim, Variant>>({3, AttentionMma<E, kDim>::kThreads, AttentionMma<E, kDim>::kShared}, args);
}

/// What queries see, and how their scores are capped.
struct View {
  bool causal = false;
  int window = 1 << 20;
  double softcap = 0;

  bool sees(int query, int key) const { return !causal || (key <= query && key > query - window); }
  double capped(double score) const { return softcap > 0 ? softcap * std::tanh(score / softcap) : score; }
};

/// Sequences of these lengths; with `gap`, keys and values still lie among others' that have left.
template <class E, int kDim>
struct Sequences {
  int heads, key_heads, tokens = 0, gap;
  Device<int> cu_seqlens{0}, source_rows, work, counts = Device<int>(kCounts);
  Device<E> query, key_value, context;

  Sequences(std::mt19937& random, const std::vector<int>& lengths, int head_count, int gap_rows = 0, int shared_by = 1)
      : heads(head_count), key_heads(head_count / shared_by), gap(gap_rows) {
    for (const int length : lengths) {
      const int s = static_cast<int>(cu_seqlens.size()) - 1;
      source_rows.push_back(tokens + gap * (s + 1));
      for (int b = 0; b * query_block<E, kDim>() < length; ++b) work.push_back(s << kBlockBits | b);
      cu_seqlens.push_back(tokens += length);
    }
    counts[kSequences] = static_cast<int>(lengths.size());
    counts[kRows] = tokens;
    counts[kWorkItems] = static_cast<int>(work.size());
    query = random_elements<E>(random, static_cast<size_t>(tokens) * heads * kDim);
    key_value = random_elements<E>(random, static_cast<size_t>(tokens + gap * lengths.size()) * 2 * key_heads * kDim);
    context = poisoned<E>(static_cast<size_t>(tokens + 1) * heads * kDim);
  }
  AttentionArgs args(bool scoring) {
    const ActiveSetView active{counts.data(), nullptr, cu_seqlens.data(), source_rows.data(), nullptr, work.data()};
    return {query.data(), key_value.data(), context.data(), active, scoring, gap > 0, heads, key_heads, 1 / std::sqrt(static_cast<float>(kDim))};
  }
  const E* key(int s, int t, int h) const {
    return &key_value[(static_cast<size_t>(gap > 0 ? source_rows[s] : cu_seqlens[s]) + t) * 2 * key_heads * kDim + h / (heads / key_heads) * kDim];
  }

  void check_values(const View& view = {}) const {
    HonestBound bound;
    std::vector<double> weight;
    std::vector<float> single;
    for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s)
      for (int r = cu_seqlens[s]; r < cu_seqlens[s + 1]; ++r)
        for (int h = 0; h < heads; ++h) {
          const int length = cu_seqlens[s + 1] - cu_seqlens[s];
          weight.assign(length, 0);
          single.assign(length, 0);
          double top = -INFINITY, sum = 0;
          float single_sum = 0;
          for (int t = 0; t < length; ++t) {
            for (int d = 0; d < kDim; ++d) weight[t] += static_cast<double>(to_float(query[(static_cast<size_t>(r) * heads + h) * kDim + d])) * to_float(key(s, t, h)[d]);
            weight[t] = view.sees(r - cu_seqlens[s], t) ? view.capped(weight[t] / std::sqrt(static_cast<double>(kDim))) : -INFINITY;
            top = std::max(top, weight[t]);
          }
          for (int t = 0; t < length; ++t) {
            sum += weight[t] = std::exp(weight[t] - top);
            single_sum += static_cast<float>(weight[t]);
            single[t] = to_float(to_element<E>(static_cast<float>(weight[t])));
          }
          for (int d = 0; d < kDim; ++d) {
            double exact = 0;
            float honest = 0;
            for (int t = 0; t < length; ++t) {
              const float v = to_float(key(s, t, h)[key_heads * kDim + d]);
              exact += weight[t] / sum * v;
              honest += single[t] * v;
            }
            bound.add(to_float(context[(static_cast<size_t>(r) * heads + h) * kDim + d]), to_float(to_element<E>(honest / single_sum)), exact);
          }
        }
    bound.check("attention");
    for (int i = 0; i < heads * kDim; ++i) CHECK(is_poison(context[static_cast<size_t>(tokens) * heads * kDim + i]));
  }
};

template <class E, int kDim>
void check_lengths(const std::vector<int>& lengths, int heads) {
  under_every_schedule([&] {
    std::mt19937 random(1);
    Sequences<E, kDim> sequences(random, lengths, heads);
    launch_attention<E, kDim>(sequences.args(false));
    sequences.check_values();
  });
}

TEST("every query sees the keys of its own sequence, all of them and no other") {
  const std::vector<int> lengths = kSanitized ? std::vector<int>{1, 66} : std::vector<int>{5, 64, 1, 130, 33, 63};
  const std::vector<int> few = kSanitized ? std::vector<int>{40, 3} : lengths;
  check_lengths<Bf16, 32>(lengths, 2);
  check_lengths<F16, 64>(lengths, 1);
  check_lengths<float, 32>(lengths, 2);
  check_lengths<float, 64>(few, 1);
  check_lengths<Bf16, 128>(few, 1);
  check_lengths<float, 128>(few, 1);
  if (kSanitized) return;  // the other type of 16 bits differs in one instruction
  check_lengths<F16, 32>(lengths, 2);
  check_lengths<Bf16, 64>(lengths, 1);
  check_lengths<F16, 128>(lengths, 1);
}

template <class E, int kDim>
void check_a_thousand() {
  std::mt19937 random(2);
  Sequences<E, kDim> sequences(random, {1000, 2}, 1);
  launch_attention<E, kDim>(sequences.args(false));
  sequences.check_values();
}

TEST("a sequence of a thousand tokens is no different") {
  if (kSanitized) SKIP("too slow under a sanitizer");
  check_a_thousand<float, 32>();
  check_a_thousand<Bf16, 64>();
  check_a_thousand<F16, 128>();
}

template <class E, int kDim, class Variant>
void check_view(const View& view, const std::vector<int>& lengths, int heads, int shared_by) {
  under_every_schedule([&] {
    std::mt19937 random(6);
    Sequences<E, kDim> sequences(random, lengths, heads, 0, shared_by);
    typename Variant::Args args;
    static_cast<AttentionArgs&>(args) = sequences.args(false);
    args.window = view.window;
    args.softcap = static_cast<float>(view.softcap);
    launch_attention<E, kDim, Variant>(args);
    sequences.check_values(view);

    // A scoring row is the sequence's last, and has the same bits alone.
    const size_t width = static_cast<size_t>(heads) * kDim;
    Sequences<E, kDim> scoring = sequences;
    for (size_t s = 0; s < lengths.size(); ++s) std::copy_n(&sequences.query[(sequences.cu_seqlens[s + 1] - 1) * width], width, &scoring.query[s * width]);
    static_cast<AttentionArgs&>(args) = scoring.args(true);
    launch_attention<E, kDim, Variant>(args);
    for (size_t s = 0; s < lengths.size(); ++s)
      CHECK(std::memcmp(&scoring.context[s * width], &sequences.context[(sequences.cu_seqlens[s + 1] - 1) * width], sizeof(E) * width) == 0);
  });
}

TEST("a causal query sees itself and what came before, as far as its window reaches") {
  const std::vector<int> lengths = kSanitized ? std::vector<int>{70, 1} : std::vector<int>{5, 64, 1, 130, 33, 200};
  for (const int window : {1 << 20, 1, 20, 64, 100}) {
    if (kSanitized && window != 20) continue;
    check_view<Bf16, 32, Causal<false>>({true, window}, lengths, 1, 1);
    check_view<float, 32, Causal<false>>({true, window}, lengths, 1, 1);
    if (kSanitized) continue;
    check_view<F16, 64, Causal<false>>({true, window}, lengths, 1, 1);
    check_view<Bf16, 128, Causal<false>>({true, window}, {70, 3}, 1, 1);
  }
}

TEST("scores are capped, and heads share keys and values") {
  const std::vector<int> lengths = kSanitized ? std::vector<int>{40} : std::vector<int>{66, 1, 30};
  check_view<Bf16, 32, Causal<true>>({true, 20, 1.5}, lengths, 4, 2);
  check_view<float, 64, Causal<true>>({true, 20, 1.5}, lengths, 2, 2);
  if (!kSanitized) check_view<F16, 128, Causal<true>>({true, 1 << 20, 1.5}, lengths, 4, 4);
}

TEST("nobody active is nothing to do") {
  check_lengths<Bf16, 32>({}, 2);
  check_lengths<float, 32>({}, 2);
}

template <class E, int kDim>
void check_bits(const std::vector<int>& lengths) {
  constexpr int kHeads = 2, kWidth = kHeads * kDim;
  std::mt19937 random(3);
  Sequences<E, kDim> all(random, lengths, kHeads);
  launch_attention<E, kDim>(all.args(false));

  // The scoring row alone: query row s is sequence s's first.
  Sequences<E, kDim> scoring = all;
  for (size_t s = 0; s < lengths.size(); ++s)
    std::copy_n(&all.query[static_cast<size_t>(all.cu_seqlens[s]) * kWidth], kWidth, &scoring.query[s * kWidth]);
  scoring.context = poisoned<E>(scoring.context.size());
  launch_attention<E, kDim>(scoring.args(true));
  for (size_t s = 0; s < lengths.size(); ++s)
    CHECK(std::memcmp(&scoring.context[s * kWidth], &all.context[static_cast<size_t>(all.cu_seqlens[s]) * kWidth], sizeof(E) * kWidth) == 0);
  CHECK(is_poison(scoring.context[lengths.size() * kWidth]));

  // Keys and values left where they were before others stopped.
  Sequences<E, kDim> gapped(random, lengths, kHeads, 3);
  gapped.query = all.query;
  for (size_t s = 0; s < lengths.size(); ++s)
    std::copy_n(&all.key_value[static_cast<size_t>(all.cu_seqlens[s]) * 2 * kWidth], lengths[s] * 2 * kWidth,
                &gapped.key_value[static_cast<size_t>(gapped.source_rows[s]) * 2 * kWidth]);
  launch_attention<E, kDim>(gapped.args(false));
  CHECK(std::memcmp(gapped.context.data(), all.context.data(), sizeof(E) * all.tokens * kWidth) == 0);
}

TEST("a scoring row alone, and keys left behind by a compaction, give the same bits") {
  check_bits<Bf16, 32>({70, 1, 20});
  check_bits<float, 32>({40, 1, 20});
  if (!kSanitized) check_bits<F16, 64>({65, 64});
}

template <class E, int kDim>
void check_memory(int length) {
  const Setting<bool> setting(simt::options.trace, true);
  std::mt19937 random(4);
  Sequences<E, kDim> sequences(random, {length}, 2);
  simt::counters = {};
  launch_attention<E, kDim>(sequences.args(false));
  CHECK_EQ(simt::counters.shared_wavefronts, simt::counters.shared_ideal);
  CHECK(simt::counters.coalesced() >= 0.9);
}

TEST("no shared access conflicts, and at least nine in ten global bytes moved were asked for") {
  needs_emulator();
  check_memory<Bf16, 32>(128);
  check_memory<Bf16, 64>(64);
  check_memory<F16, 128>(64);
  check_memory<float, 32>(64);
  check_memory<float, 64>(64);
  check_memory<float, 128>(64);
}

}  // namespace
}  // namespace matryoshka::cuda
