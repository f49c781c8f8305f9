// The budget rule: whoever is not expected to improve DCG@k by `stake` by being scored deeper stops.
#pragma once

#include "engine/exit_rule.h"
#include "engine/rules/standings.h"

namespace matryoshka {

/// Decides for `count` running sequences of a list that is the batch's sequences [first, last). Sets
/// stop [count], all 0 on entry, to 1 for whoever stops.
void decide_budget(const ExitRule& rule, const Standings& standings, const int32_t* running, int count, int first, int last, uint8_t* stop);

}  // namespace matryoshka
