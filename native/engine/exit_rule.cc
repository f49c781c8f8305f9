#include "engine/exit_rule.h"

#include <cmath>

#include "engine/rules/confidence.h"
#include "engine/rules/top_k.h"

namespace matryoshka {

void decide(const ExitRule& rule, int exit, const ActiveSet& active, const float* logits, int exits, std::vector<uint8_t>& stop) {
  stop.assign(active.size(), 0);
  int previous = exit - 1;
  while (previous >= 0 && !rule.at[previous]) --previous;

  ListAtExit list;
  for (size_t l = 0; l + 1 < active.list_offsets.size(); ++l) {
    const int first = active.list_offsets[l], last = active.list_offsets[l + 1];
    list.estimate.clear();
    list.change.clear();
    list.difficulty.clear();
    for (int i = first; i < last; ++i) {
      const size_t sequence = active.sequences[i];
      const float a = estimate(rule, exit, logits[sequence * exits + exit]);
      list.estimate.push_back(a);
      list.change.push_back(previous < 0 ? 0.0f : std::fabs(a - estimate(rule, previous, logits[sequence * exits + previous])));
      if (!rule.difficulty.empty()) list.difficulty.push_back(rule.difficulty[sequence]);
    }
    if (rule.kind == RuleKind::top_k) decide_top_k(rule, exit, list, &stop[first]);
    else if (rule.kind == RuleKind::confidence) decide_confidence(rule, exit, list, &stop[first]);
  }
}

}  // namespace matryoshka
