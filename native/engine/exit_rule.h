// When a document stops: the rules as data, so that any backend can decide where its scores are.
//
// lib/exit/ replays the same rules from stored scores. Both sides use single float operations in the order written, no
// fused multiply-add, so that they decide alike, bit for bit.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "engine/active_set.h"
#include "engine/batch.h"
#include "engine/rules/standings.h"

namespace matryoshka {

enum class RuleKind : uint8_t { none, confidence, top_k, budget };

/// One exit at which the rule decides: its estimate of the final score, and how uncertain that is.
struct ExitHead {
  int exit = 0;      ///< index into the checkpoint's exits
  float slope = 1;   ///< a = slope · score + offset, of the logit or, where the model has one, the compensation's estimate
  float offset = 0;
  float width = 0;   ///< half-width per unit of scale: width · unit + trend · |a - a at the rule's previous exit| + spread · g
  float trend = 0;
  float spread = 0;  ///< g: largest less smallest change in the list from the rule's first exit to its second
  double sure = std::numeric_limits<double>::infinity();  ///< confidence: stop where |a|, or the list's largest softmax, exceeds it
};

struct ExitRule {
  RuleKind kind = RuleKind::none;
  std::vector<ExitHead> heads;    ///< ascending
  int k = 0;                      ///< top_k
  float scale = 0;                ///< top_k
  double stake = 0;               ///< budget: whoever has less DCG at stake stops
  std::vector<float> discounts;   ///< budget: [k] nDCG's, by rank
  bool over_list = false;         ///< confidence: softmax over the list, which then stops as a whole, not over {relevant, not}
  float easy = 0;                 ///< confidence: stop where the difficulty is below it …
  std::vector<float> difficulty;  ///< … [n] by sequence of the batch, or empty for no such test

  /// Index into heads of the one at exit index `exit`, or -1.
  int head_at(int exit) const;
  /// Is there any spread? Then the first exit stops nobody, so that g is of whole lists.
  bool reads_spread() const;
};

/// Marks in `stop` [active.size()] who stops at heads[head]. Non-finite estimates never stop. `list_offsets`: the batch's;
/// `standings`: what the decisions at earlier heads left there, reset before the first.
void decide(const ExitRule& rule, int head, const std::vector<int32_t>& list_offsets, const ActiveSet& active, const Scores& scores,
            Standings& standings, std::vector<uint8_t>& stop);

}  // namespace matryoshka
