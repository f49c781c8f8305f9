// Out-only pruning: a document stops once its upper bound lies below the k-th largest lower bound of its list.
#pragma once

#include "engine/exit_rule.h"
#include "engine/rules/list_at_exit.h"

namespace matryoshka {

/// Sets stop [list.estimate.size()], all 0 on entry, to 1 for whoever stops.
void decide_top_k(const ExitRule& rule, const ListAtExit& list, uint8_t* stop);

}  // namespace matryoshka
