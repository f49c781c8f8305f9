#include "engine/active_set.h"

#include <numeric>

namespace matryoshka {

ActiveSet ActiveSet::all(const TokenBatch& batch) {
  ActiveSet active;
  active.sequences.resize(batch.sequences());
  std::iota(active.sequences.begin(), active.sequences.end(), 0);
  active.cu_seqlens = batch.cu_seqlens;
  active.list_offsets = batch.list_offsets;
  return active;
}

std::vector<RowMove> compact(ActiveSet& active, const std::vector<uint8_t>& stop) {
  std::vector<RowMove> moves;
  ActiveSet kept;
  kept.cu_seqlens.push_back(0);
  kept.list_offsets.push_back(0);
  for (size_t list = 0; list + 1 < active.list_offsets.size(); ++list) {
    for (int i = active.list_offsets[list]; i < active.list_offsets[list + 1]; ++i) {
      if (stop[i]) continue;
      const int from = active.cu_seqlens[i], rows = active.cu_seqlens[i + 1] - from, to = kept.cu_seqlens.back();
      if (from != to) {
        if (!moves.empty() && moves.back().from + moves.back().rows == from) moves.back().rows += rows;
        else moves.push_back({from, to, rows});
      }
      kept.sequences.push_back(active.sequences[i]);
      kept.cu_seqlens.push_back(to + rows);
    }
    kept.list_offsets.push_back(kept.size());
  }
  active = std::move(kept);
  return moves;
}

}  // namespace matryoshka
