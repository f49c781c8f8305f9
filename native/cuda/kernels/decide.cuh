// Who stops at an exit: engine/exit_rule.cc over again, operation for operation, a block a list.
#pragma once

#include "cuda/instructions/math.cuh"
#include "cuda/instructions/memory.cuh"
#include "cuda/kernels/active_set.cuh"

namespace matryoshka::cuda {

enum class Rule : uint8_t { confidence, top_k };

/// What an exit of the rule says of the final score: slope · score + offset.
struct Estimate {
  int exit;
  float slope, offset;
};

struct DecideArgs {
  ActiveSetView active;
  const float* logits;  ///< [n, exits] by sequence of the batch, or what compensations make of them
  const float* units;   ///< [n, exits] what half-widths are multiples of; null: all 1
  int exits;
  Rule rule;
  bool over_list;
  bool has_previous;  ///< a head of the rule came before
  Estimate now, previous;
  float width, trend, spread, scale;
  bool measured;            ///< by the list's spread: heads before the second stop nobody
  Estimate first, second;   ///< of the rule's first two heads …
  const int* list_offsets;  ///< [lists + 1] … whose scores are read of all the batch's sequences
  int k;
  double sure;
  float easy;
  const float* difficulty;  ///< [n] by sequence of the batch, or null
  float *low, *high;        ///< [active] scratch; confidence keeps estimates in `low`
  double* terms;            ///< [active] scratch
  unsigned char* stop;      ///< [active] out
};

constexpr int kDecideThreads = 256;
constexpr int kDecideShared = (kDecideThreads / 32 * 2 + 2) * 4;  ///< two floats a warp, and one number

/// e^x for x <= 0 with every bit defined: see engine/rules/confidence.cc.
DEVICE double exp_non_positive(double x) {
  if (!(x >= -700)) return 0;
  const double n = floor(add_exact(mul_exact(x, 1.4426950408889634), 0.5));
  const double r = add_exact(add_exact(x, -mul_exact(n, 0.6931471803691238)), -mul_exact(n, 1.9082149292705877e-10));
  double p = 1;
  for (int i = 13; i >= 1; --i) p = add_exact(1.0, div_exact(mul_exact(p, r), static_cast<double>(i)));
  return ldexp(p, static_cast<int>(n));
}

DEVICE bool finite(float x) { return fabsf(x) <= 3.4028234664e38f; }

/// One list, positions [first, last) of the active set.
class ListDecision {
 public:
  DEVICE ListDecision(const DecideArgs& args, int list)
      : args_(args), list_(list), first_(load(args.active.list_offsets + list)), last_(load(args.active.list_offsets + list + 1)) {}

  /// A document is out once its upper bound lies below the k-th largest lower bound.
  DEVICE void top_k(float* shared) const {
    if (last_ - first_ <= args_.k || (args_.measured && !args_.has_previous)) return none();
    float* const bar = shared + kWarps * 2;
    const float g = args_.measured ? list_spread(shared) : 0;
    for (int i = mine(); i < last_; i += kDecideThreads) {
      const float a = estimate(i), half = mul_exact(args_.scale, width(i, a, g));
      const bool sound = finite(a) && finite(half);
      store(args_.low + i, sound ? add_exact(a, -half) : -INFINITY);
      store(args_.high + i, sound ? add_exact(a, half) : INFINITY);
    }
    sync_block();  // all bounds are there, and nobody still reads the last list's bar
    for (int i = mine(); i < last_; i += kDecideThreads) {
      const float low = load(args_.low + i);
      int rank = 0;  // ties by position, so that exactly one document has each rank
      for (int j = first_; j < last_; ++j) {
        const float other = load(args_.low + j);
        rank += other > low || (other == low && j < i);
      }
      if (rank == args_.k - 1) store_shared(bar, low);
    }
    sync_block();
    for (int i = mine(); i < last_; i += kDecideThreads) put(i, load(args_.high + i) < load_shared(bar));
  }

  /// Stop where |a|, or the list's largest softmax weight, is above the threshold, or where the document was easy.
  DEVICE void confidence(double* shared) const {
    for (int i = mine(); i < last_; i += kDecideThreads) store(args_.low + i, estimate(i));
    if (args_.over_list) list_confidence(shared);
    for (int i = mine(); i < last_; i += kDecideThreads) {
      const float a = load(args_.low + i);
      const double sureness = args_.over_list ? load_shared(shared) : static_cast<double>(fabsf(a));
      const bool easy = args_.difficulty && load(args_.difficulty + sequence(i)) < args_.easy;
      put(i, finite(a) && (easy || sureness > args_.sure));
    }
  }

 private:
  DEVICE int mine() const { return first_ + thread_index(); }
  DEVICE int sequence(int i) const { return load(args_.active.sequences + i); }
  DEVICE void put(int i, bool stops) const { store(args_.stop + i, static_cast<unsigned char>(stops)); }
  DEVICE void none() const {
    for (int i = mine(); i < last_; i += kDecideThreads) put(i, false);
  }

  DEVICE float estimate(const Estimate& of, int sequence) const {
    return add_exact(mul_exact(of.slope, load(args_.logits + static_cast<size_t>(sequence) * args_.exits + of.exit)), of.offset);
  }
  DEVICE float estimate(int i) const { return estimate(args_.now, sequence(i)); }

  /// Largest less smallest change from the rule's first exit to its second, over all of the list that is finite.
  DEVICE float list_spread(float* shared) const {
    float least = INFINITY, most = -INFINITY;
    for (int s = load(args_.list_offsets + list_) + thread_index(); s < load(args_.list_offsets + list_ + 1); s += kDecideThreads) {
      const float change = add_exact(estimate(args_.second, s), -estimate(args_.first, s));
      if (!finite(change)) continue;
      least = fminf(least, change);
      most = fmaxf(most, change);
    }
    UNROLL for (int mask = 1; mask < 32; mask *= 2) {
      least = fminf(least, shuffle_xor(least, mask));
      most = fmaxf(most, shuffle_xor(most, mask));
    }
    sync_block();  // nobody still reads the last list's
    if (thread_index() % 32 == 0) {
      store_shared(shared + thread_index() / 32, least);
      store_shared(shared + kWarps + thread_index() / 32, most);
    }
    sync_block();  // every warp has said its own
    UNROLL for (int warp = 0; warp < kWarps; ++warp) {
      least = fminf(least, load_shared(shared + warp));
      most = fmaxf(most, load_shared(shared + kWarps + warp));
    }
    return most >= least ? add_exact(most, -least) : 0;
  }

  DEVICE float width(int i, float a, float g) const {
    const float unit = args_.units ? load(args_.units + static_cast<size_t>(sequence(i)) * args_.exits + args_.now.exit) : 1;
    const float constant = mul_exact(args_.width, unit);
    float change = 0;
    if (args_.has_previous) change = fabsf(add_exact(a, -estimate(args_.previous, sequence(i))));
    return add_exact(add_exact(constant, mul_exact(args_.trend, change)), mul_exact(args_.spread, g));
  }

  /// 1 / Σ exp(a - max a) over what is finite. One thread adds, in the list's order: a sum's bits depend on it.
  DEVICE void list_confidence(double* shared) const {
    sync_block();  // all estimates are there, and nobody still reads the last list's confidence
    float top = -INFINITY;
    for (int j = first_; j < last_; ++j) {
      const float a = load(args_.low + j);
      if (finite(a)) top = fmaxf(top, a);
    }
    for (int i = mine(); i < last_; i += kDecideThreads) {
      const float a = load(args_.low + i);
      store(args_.terms + i, finite(a) ? exp_non_positive(add_exact(static_cast<double>(a), -static_cast<double>(top))) : 0.0);
    }
    sync_block();
    if (thread_index() == 0) {
      double sum = 0;
      for (int j = first_; j < last_; ++j) sum = add_exact(sum, load(args_.terms + j));
      store_shared(shared, sum > 0 ? div_exact(1.0, sum) : 0.0);
    }
    sync_block();
  }

  static constexpr int kWarps = kDecideThreads / 32;
  const DecideArgs& args_;
  int list_, first_, last_;
};

KERNEL(kDecideThreads, 1)
decide(DecideArgs args) {
  const int lists = load(args.active.counts + kLists);
  for (int list = block_index(); list < lists; list += block_count()) {
    const ListDecision decision(args, list);
    if (args.rule == Rule::top_k) decision.top_k(reinterpret_cast<float*>(shared_memory()));
    else decision.confidence(reinterpret_cast<double*>(shared_memory()));
  }
}

}  // namespace matryoshka::cuda
