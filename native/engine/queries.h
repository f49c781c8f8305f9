// Queries on their own, ahead of the pairs they belong to: what a query-conditioned head compares documents with.
#pragma once

#include "engine/batch.h"
#include "engine/exit_rule.h"

namespace matryoshka {

/// `batch` with every query before all pairs, as a sequence [CLS] query [SEP] without token types and as a list of its
/// own, so that no rule stops it. A query is a pair's tokens up to the first that equals its last one, the separator (so
/// a separator in the query's own text ends it); neighbours with the same query share it.
TokenBatch with_queries(const TokenBatch& batch);

/// The same in place, and a rule's difficulties with it, where heads are conditioned on the query; else nothing.
void add_queries(HeadKind head, TokenBatch& batch, ExitRule& rule);

}  // namespace matryoshka
