// Deciding and compacting on the device: bit for bit what the engine's own code decides and keeps, on the same scores.
#include "cuda/kernels/compact.cuh"
#include "cuda/kernels/decide.cuh"
#include "engine/active_set.h"
#include "engine/exit_rule.h"
#include "kernels.h"

namespace matryoshka::cuda {
namespace {

/// Device memory of an active set, with room for `n` sequences.
struct DeviceSet {
  Device<int> counts, sequences, cu_seqlens, source_rows, list_offsets, work;

  DeviceSet(int n, int lists, int work_items)
      : counts(kCounts, -1), sequences(n, -1), cu_seqlens(n + 1, -1), source_rows(n, -1), list_offsets(lists + 1, -1), work(work_items, -1) {}
  explicit DeviceSet(const ActiveSet& active, int query_block) : DeviceSet(active.size(), static_cast<int>(active.list_offsets.size()) - 1, 0) {
    sequences.assign(active.sequences.begin(), active.sequences.end());
    cu_seqlens.assign(active.cu_seqlens.begin(), active.cu_seqlens.end());
    list_offsets.assign(active.list_offsets.begin(), active.list_offsets.end());
    for (int s = 0; s < active.size(); ++s)
      for (int b = 0; b * query_block < cu_seqlens[s + 1] - cu_seqlens[s]; ++b) work.push_back(s << kBlockBits | b);
    counts = {active.size(), active.rows(), static_cast<int>(work.size()), static_cast<int>(list_offsets.size()) - 1};
  }
  ActiveSetView view() { return {counts.data(), sequences.data(), cu_seqlens.data(), source_rows.data(), list_offsets.data(), work.data()}; }
};

struct Lists {
  TokenBatch batch;
  ActiveSet active;

  Lists(std::mt19937& random, int count, int longest) {
    batch.cu_seqlens = {0};
    batch.list_offsets = {0};
    for (int l = 0; l < count; ++l) {
      const int size = 1 + static_cast<int>(random() % longest);
      for (int i = 0; i < size; ++i) batch.cu_seqlens.push_back(batch.cu_seqlens.back() + 1 + static_cast<int>(random() % 150));
      batch.list_offsets.push_back(batch.list_offsets.back() + size);
    }
    active = ActiveSet::all(batch);
  }
};

std::vector<float> random_logits(std::mt19937& random, size_t count) {
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(count);
  for (float& x : logits) {
    x = normal(random);
    if (random() % 5 == 0) x = std::round(x);  // ties
    if (random() % 60 == 0) x = random() % 2 ? NAN : INFINITY;
  }
  return logits;
}

ExitRule random_rule(std::mt19937& random, int sequences) {
  const auto uniform = [&] { return static_cast<float>(random() % 1024) / 1024; };
  ExitRule rule;
  constexpr RuleKind kKinds[] = {RuleKind::top_k, RuleKind::confidence, RuleKind::budget};
  rule.kind = kKinds[random() % 3];
  const bool measured = random() % 2;
  for (int exit = 0; exit < 3; ++exit) {
    ExitHead head;
    head.exit = exit;
    head.slope = 0.5f + uniform();
    head.offset = uniform() - 0.5f;
    head.width = random() % 4 ? uniform() : 0;
    head.trend = uniform();
    head.spread = measured ? uniform() / 4 : 0;
    head.sure = rule.kind == RuleKind::confidence ? 2 * uniform() : 0;
    rule.heads.push_back(head);
  }
  rule.k = 1 + static_cast<int>(random() % 12);
  rule.scale = random() % 4 ? uniform() : 0;
  rule.stake = 0.02 * uniform() * uniform();
  for (int rank = 0; rank < rule.k; ++rank) rule.discounts.push_back(1 / std::log2(rank + 2.f));
  rule.over_list = random() % 2;
  if (rule.over_list)
    for (ExitHead& head : rule.heads) head.sure /= 3;
  rule.easy = 0.3f;
  if (random() % 2)
    for (int s = 0; s < sequences; ++s) rule.difficulty.push_back(uniform());
  return rule;
}

template <class T>
Device<T> on_device(const std::vector<T>& values) {
  return {values.begin(), values.end()};
}

/// What the budget rule keeps on the device from exit to exit.
struct DeviceStandings {
  Device<double> place, span, level, gain;
  Device<int> rank;

  DeviceStandings(int sequences, int lists)
      : place(sequences, NAN), span(sequences, NAN), level(lists, NAN), gain(sequences, NAN), rank(sequences, -7) {}
};

constexpr Rule rule_of(RuleKind kind) {
  return kind == RuleKind::top_k ? Rule::top_k : kind == RuleKind::budget ? Rule::budget : Rule::confidence;
}

std::vector<uint8_t> decide_on_device(const ExitRule& rule, int at, DeviceSet& set, const std::vector<int32_t>& offsets, const Scores& scores,
                                      DeviceStandings& standings) {
  const int n = set.counts[kSequences];
  const auto logits = on_device(scores.estimates.empty() ? scores.logits : scores.estimates), units = on_device(scores.units),
             difficulty = on_device(rule.difficulty), discounts = on_device(rule.discounts);
  const auto list_offsets = on_device(offsets);
  Device<float> low(n, NAN), high(n, NAN);
  Device<double> terms(n, NAN);
  Device<uint8_t> stop(n + 1, 77);
  const ExitHead& head = rule.heads[at];
  const auto estimate_of = [&](int index) {
    const ExitHead& of = rule.heads[index];
    return Estimate{of.exit, of.slope, of.offset};
  };
  const DecideArgs args{set.view(),
                        logits.data(), units.empty() ? nullptr : units.data(), scores.exits,
                        rule_of(rule.kind),
                        rule.over_list, at > 0,
                        estimate_of(at), estimate_of(at ? at - 1 : 0),
                        head.width,    head.trend,
                        head.spread,   rule.scale,
                        rule.reads_spread(),
                        estimate_of(0), estimate_of(1),
                        list_offsets.data(), rule.k,
                        rule.stake,    discounts.data(),
                        standings.place.data(), standings.span.data(), standings.level.data(), standings.gain.data(), standings.rank.data(),
                        head.sure,     rule.easy,
                        difficulty.empty() ? nullptr : difficulty.data(),
                        low.data(),    high.data(),
                        terms.data(),  stop.data()};
  run<DecideArgs, decide>({3, kDecideThreads, kDecideShared}, args);
  CHECK_EQ(int{stop.back()}, 77);
  return {stop.begin(), stop.end() - 1};
}

TEST("the device decides as the engine does, bit for bit, over random lists, rules, ties and scores that are no numbers") {
  std::mt19937 random(1);
  int lists = 0, stopped = 0, kept = 0;
  under_every_schedule([&] {
    for (int round = 0; round < (kSanitized ? 4 : 60); ++round) {
      const Lists l(random, 4, round % 5 == 0 ? 300 : round == 1 && !kSanitized ? 1100 : 30);
      const int n = l.batch.sequences();
      Scores scores;
      scores.exits = 4;
      scores.logits = random_logits(random, static_cast<size_t>(n) * 4);
      if (round % 2) {  // of a model with compensations
        scores.estimates = random_logits(random, scores.logits.size());
        for (size_t i = 0; i < scores.logits.size(); ++i) scores.units.push_back(static_cast<float>(random() % 1000 + 1) / 300);
      }
      const ExitRule rule = random_rule(random, n);
      ActiveSet active = l.active;
      Standings standings;
      standings.reset(n, l.batch.lists());
      DeviceStandings on_device(n, l.batch.lists());
      for (int at = 0; at < 3; ++at) {
        std::vector<uint8_t> expected;
        decide(rule, at, l.batch.list_offsets, active, scores, standings, expected);
        DeviceSet set(active, 64);
        CHECK(decide_on_device(rule, at, set, l.batch.list_offsets, scores, on_device) == expected);
        for (const uint8_t stop : expected) ++(stop ? stopped : kept);
        compact(active, expected);
      }
      lists += 4;
    }
  });
  std::printf("%d lists, %d stopped, %d kept\n", lists, stopped, kept);
  CHECK(stopped > 20 && kept > 20);
}

/// Compacts on both sides and compares; returns the device's new set.
void check_compaction(const Lists& lists, const std::vector<uint8_t>& stop, int query_block) {
  ActiveSet expected = lists.active;
  std::vector<int> rows(lists.active.rows());
  for (size_t r = 0; r < rows.size(); ++r) rows[r] = static_cast<int>(r);
  for (const RowMove& move : compact(expected, stop)) std::copy_n(rows.begin() + move.from, move.rows, rows.begin() + move.to);

  const int n = lists.active.size(), list_count = lists.batch.lists();
  DeviceSet from(lists.active, query_block), to(n, list_count, static_cast<int>(from.work.size()));
  const auto stops = on_device(stop);
  Device<int> slots(n + 1, -1), row_map(lists.active.rows() + 1, -1);
  Device<uint8_t> exit_layers(n, 0);
  run<CompactArgs, compact>({1, kCompactThreads, kCompactThreads / 32 * 4},
                            {from.view(), to.view(), stops.data(), slots.data(), exit_layers.data(), 7, query_block});
  run<MapRowsArgs, map_rows>({2, kRowThreads, 0}, {to.view(), row_map.data()});

  CHECK_EQ(to.counts[kSequences], expected.size());
  CHECK_EQ(to.counts[kRows], expected.rows());
  CHECK_EQ(to.counts[kLists], list_count);
  to.sequences.resize(expected.size());
  CHECK(to.sequences == on_device(expected.sequences));
  to.cu_seqlens.resize(expected.size() + 1);
  CHECK(to.cu_seqlens == on_device(expected.cu_seqlens));
  CHECK(to.list_offsets == on_device(expected.list_offsets));
  to.work.resize(to.counts[kWorkItems]);
  CHECK(to.work == DeviceSet(expected, query_block).work);
  for (int r = 0; r < expected.rows(); ++r) CHECK_EQ(row_map[r], rows[r]);
  CHECK_EQ(row_map[expected.rows()], -1);
  for (int s = 0; s < n; ++s) CHECK_EQ(int{exit_layers[s]}, stop[s] ? 7 : 0);
}

TEST("the device keeps the sequences, rows, lists and work that the engine keeps, whoever stops") {
  std::mt19937 random(2);
  under_every_schedule([&] {
    for (int round = 0; round < (kSanitized ? 3 : 20); ++round) {
      const Lists lists(random, 3, round % 4 == 3 ? 300 : round == 2 && !kSanitized ? 1100 : 20);  // up to several rounds of the block's threads
      std::vector<uint8_t> stop(lists.active.size());
      for (uint8_t& s : stop) s = round % 4 == 0 ? 1 : round % 4 == 1 ? 0 : random() % 3 == 0;
      check_compaction(lists, stop, round % 2 ? 64 : 32);
    }
  });
}

}  // namespace
}  // namespace matryoshka::cuda
