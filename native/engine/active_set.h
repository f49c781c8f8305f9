// The sequences still running, and how the rows of those that stop are squeezed out.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/batch.h"

namespace matryoshka {

/// Sequences keep their batch order, so lists stay neighbours; a list may become empty.
struct ActiveSet {
  std::vector<int32_t> sequences;     ///< [n'] index into the batch
  std::vector<int32_t> cu_seqlens;    ///< [n' + 1] first row of each in hidden and key_value
  std::vector<int32_t> list_offsets;  ///< [q + 1] into sequences

  static ActiveSet all(const TokenBatch& batch);
  int size() const { return static_cast<int>(sequences.size()); }
  int rows() const { return cu_seqlens.back(); }
};

/// `rows` consecutive rows that move from row `from` to row `to` <= from; apply in order.
struct RowMove {
  int from, to, rows;
};

/// Removes the sequences with stop[i] != 0 (i indexes active.sequences) and says which rows to move.
std::vector<RowMove> compact(ActiveSet& active, const std::vector<uint8_t>& stop);

}  // namespace matryoshka
