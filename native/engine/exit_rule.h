// When a document stops: the rules as data, so that any backend can decide where its scores are.
//
// lib/exit/ replays the same rules from stored scores. Both sides use single float operations in the order written, no
// fused multiply-add, so that they decide alike, bit for bit.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "engine/active_set.h"

namespace matryoshka {

enum class RuleKind : uint8_t { none, confidence, top_k };

/// One exit at which the rule decides: its estimate of the final score, and how uncertain that is.
struct ExitHead {
  int exit = 0;                ///< index into the checkpoint's exits
  std::vector<float> weights;  ///< a = bias + Σ weights[i] · logit at the rule's i-th exit, i up to this one
  float bias = 0;
  float base = 0;   ///< half-width per unit of scale: base + slope · |a - a at the rule's previous exit|
  float slope = 0;  ///< 0 at the first exit
  float sure = std::numeric_limits<float>::infinity();        ///< confidence over pairs: stop where |a| > sure
  double sure_list = std::numeric_limits<double>::infinity();  ///< confidence over the list: all stop where max softmax > it
  float easy = -std::numeric_limits<float>::infinity();       ///< confidence: stop where difficulty < easy
};

struct ExitRule {
  RuleKind kind = RuleKind::none;
  std::vector<ExitHead> heads;    ///< ascending
  int k = 0;                      ///< top_k
  float scale = 0;                ///< top_k
  std::vector<float> difficulty;  ///< confidence: [n] by sequence of the batch; empty: the half-width at the exit

  /// Index into heads of the one at exit index `exit`, or -1.
  int head_at(int exit) const;
};

/// Marks in `stop` [active.size()] who stops at heads[head]; logits is [n × exits]. Non-finite estimates never stop.
void decide(const ExitRule& rule, int head, const ActiveSet& active, const float* logits, int exits, std::vector<uint8_t>& stop);

}  // namespace matryoshka
