// When a document stops: the rules as data, so that any backend can decide where its scores are.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/active_set.h"

namespace matryoshka {

enum class RuleKind : uint8_t { none, confidence, top_k };

/// Arrays are by exit. All arithmetic is float with every operation rounded (no fma), so that a replay in another
/// language decides the same.
struct ExitRule {
  RuleKind kind = RuleKind::none;
  std::vector<uint8_t> at;    ///< 1 where the rule decides
  std::vector<float> slope;   ///< compensated estimate a = slope * logit + offset: comparable with full depth
  std::vector<float> offset;
  // top_k: a document's half-width is scale * (width + trend * |a - a at the previous deciding exit|).
  int k = 0;
  float scale = 0;
  std::vector<float> width;
  std::vector<float> trend;
  // confidence: stop when max softmax > threshold, or difficulty < easy.
  std::vector<double> threshold;
  bool over_list = false;         ///< softmax over the list, which then stops as a whole, instead of over {relevant, not}
  float easy = 0;
  std::vector<float> difficulty;  ///< [n] by sequence of the batch, or empty
};

/// Marks in `stop` [active.size()] who stops at exit index `exit`; logits is [n × exits]. Non-finite estimates never stop.
void decide(const ExitRule& rule, int exit, const ActiveSet& active, const float* logits, int exits, std::vector<uint8_t>& stop);

/// The compensated estimate of one logit at an exit.
inline float estimate(const ExitRule& rule, int exit, float logit) { return rule.slope[exit] * logit + rule.offset[exit]; }

}  // namespace matryoshka
