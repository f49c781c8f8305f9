#include "engine/exit_rule.h"

#include <cmath>

#include "engine/rules/confidence.h"
#include "engine/rules/top_k.h"

namespace matryoshka {
namespace {

/// Terms of weight 0 are skipped, so a NaN at an exit that is not used does no harm; + 0 turns -0 into +0.
float estimate(const ExitRule& rule, int head, const float* logits) {
  const ExitHead& h = rule.heads[head];
  float a = h.bias;
  for (size_t i = 0; i < h.weights.size(); ++i)
    if (h.weights[i] != 0) a = a + h.weights[i] * logits[rule.heads[i].exit];
  return a + 0.0f;
}

float half_width(const ExitHead& head, float a, float previous) {
  return head.slope == 0 ? head.base : head.base + head.slope * std::fabs(a - previous);
}

}  // namespace

int ExitRule::head_at(int exit) const {
  for (size_t i = 0; i < heads.size(); ++i)
    if (heads[i].exit == exit) return static_cast<int>(i);
  return -1;
}

void decide(const ExitRule& rule, int head, const ActiveSet& active, const float* logits, int exits, std::vector<uint8_t>& stop) {
  stop.assign(active.size(), 0);
  ListAtExit list;
  for (size_t l = 0; l + 1 < active.list_offsets.size(); ++l) {
    const int first = active.list_offsets[l], size = active.list_offsets[l + 1] - first;
    list.resize(size);
    for (int i = 0; i < size; ++i) {
      const size_t sequence = active.sequences[first + i];
      const float* row = logits + sequence * exits;
      const float a = estimate(rule, head, row);
      list.estimate[i] = a;
      list.width[i] = half_width(rule.heads[head], a, head > 0 ? estimate(rule, head - 1, row) : 0);
      list.difficulty[i] = rule.difficulty.empty() ? list.width[i] : rule.difficulty[sequence];
    }
    if (rule.kind == RuleKind::top_k) decide_top_k(rule, list, &stop[first]);
    else if (rule.kind == RuleKind::confidence) decide_confidence(rule.heads[head], list, &stop[first]);
  }
}

}  // namespace matryoshka
