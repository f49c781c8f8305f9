// The classical confidence exit: stop when the softmax is sure, or when the document was known to be easy.
#pragma once

#include "engine/exit_rule.h"
#include "engine/rules/list_at_exit.h"

namespace matryoshka {

/// Sets stop [list.estimate.size()], all 0 on entry, to 1 for whoever stops.
void decide_confidence(const ExitRule& rule, double sure, const ListAtExit& list, uint8_t* stop);

}  // namespace matryoshka
