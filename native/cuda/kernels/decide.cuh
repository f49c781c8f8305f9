// Who stops at an exit: engine/exit_rule.cc over again, operation for operation, a block a list.
#pragma once

#include "cuda/instructions/math.cuh"
#include "cuda/instructions/memory.cuh"
#include "cuda/kernels/active_set.cuh"

namespace matryoshka::cuda {

enum class Rule : uint8_t { confidence, top_k, budget };

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
  double stake;
  const float* discounts;   ///< [k] nDCG's, by rank
  double *place, *span, *level;  ///< [n], [n] by sequence of the batch and [lists]: where each stood when last scored, its half-width
                                 ///< there, and the list's level, kept from exit to exit; whoever decides first writes them anew
  double* gain;             ///< [n] scratch by sequence of the batch
  int* rank;                ///< [n] scratch by sequence of the batch
  double sure;
  float easy;
  const float* difficulty;  ///< [n] by sequence of the batch, or null
  float *low, *high;        ///< [active] scratch; confidence keeps estimates in `low`
  double* terms;            ///< [active] scratch
  unsigned char* stop;      ///< [active] out
};

constexpr int kDecideThreads = 256;
constexpr int kDecideShared = (kDecideThreads / 32 * 2 + 2) * 4;  ///< two floats a warp, and one number

/// e^x for x <= 0 with every bit defined: see engine/rules/exp.h.
DEVICE double exp_non_positive(double x) {
  if (!(x >= -700)) return 0;
  const double n = floor(add_exact(mul_exact(x, 1.4426950408889634), 0.5));
  const double r = add_exact(add_exact(x, -mul_exact(n, 0.6931471803691238)), -mul_exact(n, 1.9082149292705877e-10));
  double p = 1;
  for (int i = 13; i >= 1; --i) p = add_exact(1.0, div_exact(mul_exact(p, r), static_cast<double>(i)));
  return ldexp(p, static_cast<int>(n));
}

DEVICE bool finite(float x) { return fabsf(x) <= 3.4028234664e38f; }
DEVICE bool finite(double x) { return fabs(x) <= 1.7976931348623157e308; }

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

  /// A document stops once it has less at stake than the rule's: engine/rules/budget.cc.
  DEVICE void budget(float* shared) const {
    const int first = load(args_.list_offsets + list_), last = load(args_.list_offsets + list_ + 1);
    move_standings(shared);
    rank_and_weigh(first, last);
    for (int r = mine(); r < last_; r += kDecideThreads) {
      const int i = sequence(r);
      put(r, finite(load(args_.place + i)) && finite(load(args_.span + i)) && at_stake(i, first, last) < args_.stake);
    }
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

  /// One thread adds the changes, in the list's order: a sum's bits depend on it.
  DEVICE void move_standings(float* shared) const {
    const float g = args_.measured && args_.has_previous ? list_spread(shared) : 0;
    for (int i = mine(); i < last_; i += kDecideThreads) {
      const float a = estimate(i);
      const float change = args_.has_previous ? add_exact(a, -estimate(args_.previous, sequence(i))) : 0;
      store(args_.terms + i, static_cast<double>(change));
      const float span = width(i, a, g);
      store(args_.span + sequence(i), finite(span) && (!args_.measured || args_.has_previous) ? static_cast<double>(span) : INFINITY);
    }
    sync_block();
    if (thread_index() == 0) {
      double sum = 0;
      int count = 0;
      for (int i = first_; i < last_; ++i) {
        const double change = load(args_.terms + i);
        if (!finite(change)) continue;
        sum = add_exact(sum, change);
        ++count;
      }
      const double before = args_.has_previous ? load(args_.level + list_) : 0;
      store(args_.level + list_, count > 0 ? add_exact(before, div_exact(sum, static_cast<double>(count))) : before);
    }
    sync_block();  // the level is there
    const double level = load(args_.level + list_);
    for (int i = mine(); i < last_; i += kDecideThreads) {
      const float a = estimate(i);
      store(args_.place + sequence(i), finite(a) ? add_exact(static_cast<double>(a), -level) : static_cast<double>(NAN));
    }
    sync_block();  // and so are all places and half-widths
  }

  /// Each of the list's sequences [first, last): its share of the list's gain, and its rank.
  DEVICE void rank_and_weigh(int first, int last) const {
    double top = -INFINITY;
    for (int j = first; j < last; ++j) {
      const double place = load(args_.place + j);
      if (finite(place)) top = fmax(top, place);
    }
    for (int i = first + thread_index(); i < last; i += kDecideThreads) {
      const double place = load(args_.place + i);
      store(args_.gain + i, finite(place) ? exp_non_positive(mul_exact(0.6931471805599453, add_exact(place, -top))) : 0.0);
      int ahead = 0;
      for (int j = first; j < last; ++j) {
        const double other = load(args_.place + j);
        ahead += other > place || (other == place && j < i);
      }
      store(args_.rank + i, ahead);
    }
    sync_block();
    double total = 0;  // every thread adds them all: no broadcast, and the same bits
    for (int j = first; j < last; ++j) total = add_exact(total, load(args_.gain + j));
    sync_block();  // nobody still adds what is divided now
    for (int i = first + thread_index(); i < last; i += kDecideThreads) store(args_.gain + i, div_exact(load(args_.gain + i), total));
    sync_block();  // all shares and ranks are there
  }

  DEVICE double discount(int rank) const { return rank < args_.k ? static_cast<double>(load(args_.discounts + rank)) : 0; }

  /// What sequence i, of a list that is [first, last), is expected to improve.
  DEVICE double at_stake(int i, int first, int last) const {
    const double place = load(args_.place + i), span = load(args_.span + i);
    const int own = load(args_.rank + i);
    double stake = 0;
    for (int j = first; j < last; ++j) {
      const double other = load(args_.place + j);
      const int rank = load(args_.rank + j);
      if (j == i || !finite(other) || rank > args_.k) continue;
      const int upper = own > rank ? rank : rank - 1;
      const double step = add_exact(discount(upper), -discount(upper + 1));
      if (!(step > 0)) continue;
      const double scale = mul_exact(0.625, add_exact(span, load(args_.span + j)));
      double odds = add_exact(1.0, div_exact(div_exact(fabs(add_exact(place, -other)), scale), 32.0));
      for (int square = 0; square < 5; ++square) odds = mul_exact(odds, odds);
      const double overshoot = div_exact(scale, add_exact(odds, 0.443));
      stake = add_exact(stake, mul_exact(mul_exact(step, load(args_.gain + j)), overshoot));
    }
    return stake;
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
    else if (args.rule == Rule::budget) decision.budget(reinterpret_cast<float*>(shared_memory()));
    else decision.confidence(reinterpret_cast<double*>(shared_memory()));
  }
}

}  // namespace matryoshka::cuda
