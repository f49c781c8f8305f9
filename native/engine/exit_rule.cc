#include "engine/exit_rule.h"

#include <cmath>

#include "engine/rules/confidence.h"
#include "engine/rules/top_k.h"

namespace matryoshka {
namespace {

float estimate(const ExitHead& head, const float* row) { return head.slope * row[head.exit] + head.offset; }

}  // namespace

int ExitRule::head_at(int exit) const {
  for (size_t i = 0; i < heads.size(); ++i)
    if (heads[i].exit == exit) return static_cast<int>(i);
  return -1;
}

void decide(const ExitRule& rule, int head, const ActiveSet& active, const Scores& scores, std::vector<uint8_t>& stop) {
  const std::vector<float>& said = scores.estimates.empty() ? scores.logits : scores.estimates;
  stop.assign(active.size(), 0);
  ListAtExit list;
  for (size_t l = 0; l + 1 < active.list_offsets.size(); ++l) {
    const int first = active.list_offsets[l], size = active.list_offsets[l + 1] - first;
    list.resize(size);
    for (int i = 0; i < size; ++i) {
      const size_t sequence = active.sequences[first + i];
      const float* row = &said[sequence * scores.exits];
      const float unit = scores.units.empty() ? 1 : scores.units[sequence * scores.exits + rule.heads[head].exit];
      const float a = estimate(rule.heads[head], row);
      const float change = head > 0 ? std::fabs(a - estimate(rule.heads[head - 1], row)) : 0;
      list.estimate[i] = a;
      list.width[i] = rule.heads[head].width * unit + rule.heads[head].trend * change;
      list.easy[i] = !rule.difficulty.empty() && rule.difficulty[sequence] < rule.easy;
    }
    if (rule.kind == RuleKind::top_k) decide_top_k(rule, list, stop.data() + first);
    else if (rule.kind == RuleKind::confidence) decide_confidence(rule, rule.heads[head].sure, list, stop.data() + first);
  }
}

}  // namespace matryoshka
