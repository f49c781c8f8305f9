// One packed, padding-free batch of (query, document) sequences, and what scoring it gives back.
#pragma once

#include <cstdint>
#include <vector>

#include "model/architecture.h"

namespace matryoshka {

/// Token ids of all sequences end to end. Invariants (checked by `validate`): cu_seqlens[0] == 0, strictly
/// ascending, ends at token_ids.size(); list_offsets likewise over sequences; ids within the tables.
struct TokenBatch {
  std::vector<int32_t> token_ids;     ///< [T]
  std::vector<int32_t> type_ids;      ///< [T], or empty for all zero
  std::vector<int32_t> cu_seqlens;    ///< [n + 1]
  std::vector<int32_t> list_offsets;  ///< [q + 1]: sequences of one query's list are neighbours
  /// Where heads are query-conditioned, queries are the first sequences (see engine/queries.h): how many, and [n] which of
  /// them a pair goes with, -1 for a query itself.
  int queries = 0;
  std::vector<int32_t> query_of;

  int sequences() const { return static_cast<int>(cu_seqlens.size()) - 1; }
  int tokens() const { return cu_seqlens.back(); }
  int lists() const { return static_cast<int>(list_offsets.size()) - 1; }
};

/// Throws ERR_INVALID_ARGUMENT or ERR_INPUT_TOO_LONG where an invariant fails; nothing later checks again.
void validate(const TokenBatch& batch, const Architecture& architecture);

/// Scores are raw logits; NaN where that exit did not score that sequence.
struct Scores {
  int exits = 0;
  std::vector<float> logits;         ///< [n × exits], row by sequence
  /// [n × exits] each where the model has compensations, else empty: what an exit says of the final score, and how sure
  /// it is of it (half-widths are multiples of it). At the last exit the logit itself, and 1.
  std::vector<float> estimates, units;
  std::vector<float> states;         ///< [n × exits × H] scoring rows, where asked for, else empty; NaN as logits
  std::vector<uint8_t> exit_layers;  ///< [n]: the layer a sequence stopped at
  bool partial = false;              ///< a deadline ended the pass before the planned depth

  /// Nothing is scored yet. `hidden`: 0 where no states are asked for.
  void reset(int sequences, int exits, bool compensated, int hidden);
  /// As if the first `count` sequences had not been there.
  void drop_first(int count);
};

}  // namespace matryoshka
