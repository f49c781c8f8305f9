#include "engine/exit_rule.h"

#include <algorithm>
#include <cmath>

#include "engine/rules/budget.h"
#include "engine/rules/confidence.h"
#include "engine/rules/top_k.h"

namespace matryoshka {
namespace {

float estimate(const ExitHead& head, const float* row) { return head.slope * row[head.exit] + head.offset; }

/// g of the sequences [first, last), over the finite changes; 0 where there is none.
float list_spread(const ExitRule& rule, const std::vector<float>& said, int exits, int first, int last) {
  float least = std::numeric_limits<float>::infinity(), most = -least;
  for (int sequence = first; sequence < last; ++sequence) {
    const float* row = &said[static_cast<size_t>(sequence) * exits];
    const float change = estimate(rule.heads[1], row) - estimate(rule.heads[0], row);
    if (!std::isfinite(change)) continue;
    least = std::min(least, change);
    most = std::max(most, change);
  }
  return most >= least ? most - least : 0;
}

}  // namespace

bool ExitRule::reads_spread() const {
  return std::any_of(heads.begin(), heads.end(), [](const ExitHead& head) { return head.spread > 0; });
}

int ExitRule::head_at(int exit) const {
  for (size_t i = 0; i < heads.size(); ++i)
    if (heads[i].exit == exit) return static_cast<int>(i);
  return -1;
}

void decide(const ExitRule& rule, int head, const std::vector<int32_t>& list_offsets, const ActiveSet& active, const Scores& scores,
            Standings& standings, std::vector<uint8_t>& stop) {
  const bool measured = rule.reads_spread();
  const std::vector<float>& said = scores.estimates.empty() ? scores.logits : scores.estimates;
  stop.assign(active.size(), 0);
  ListAtExit list;
  for (size_t l = 0; l + 1 < active.list_offsets.size(); ++l) {
    const int first = active.list_offsets[l], size = active.list_offsets[l + 1] - first;
    list.resize(size);
    const float g = measured && head > 0 ? list_spread(rule, said, scores.exits, list_offsets[l], list_offsets[l + 1]) : 0;
    for (int i = 0; i < size; ++i) {
      const size_t sequence = active.sequences[first + i];
      const float* row = &said[sequence * scores.exits];
      const float unit = scores.units.empty() ? 1 : scores.units[sequence * scores.exits + rule.heads[head].exit];
      const float a = estimate(rule.heads[head], row);
      const float change = head > 0 ? a - estimate(rule.heads[head - 1], row) : 0;
      list.estimate[i] = a;
      list.change[i] = change;
      list.width[i] = rule.heads[head].width * unit + rule.heads[head].trend * std::fabs(change) + rule.heads[head].spread * g;
      if (measured && head == 0) list.width[i] = std::numeric_limits<float>::infinity();
      list.easy[i] = !rule.difficulty.empty() && rule.difficulty[sequence] < rule.easy;
    }
    if (rule.kind == RuleKind::top_k) decide_top_k(rule, list, stop.data() + first);
    else if (rule.kind == RuleKind::confidence) decide_confidence(rule, rule.heads[head].sure, list, stop.data() + first);
    else if (rule.kind == RuleKind::budget) {
      const int32_t* const running = active.sequences.data() + first;
      standings.move(static_cast<int>(l), running, list);
      decide_budget(rule, standings, running, size, list_offsets[l], list_offsets[l + 1], stop.data() + first);
    }
  }
}

}  // namespace matryoshka
