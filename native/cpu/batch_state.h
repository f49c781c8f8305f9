// What lives as long as a batch: the active sequences, their hidden states, keys and values, and the scores so far.
#pragma once

#include "cpu/aligned_buffer.h"
#include "cpu/kernels/kernels.h"
#include "cpu/tiles.h"
#include "engine/batch.h"
#include "engine/rules/standings.h"

namespace matryoshka::cpu {

struct BatchState {
  const TokenBatch* batch = nullptr;
  ActiveSet active;
  Rows2d hidden;     ///< [tokens, H] f32
  Rows2d key_value;  ///< [tokens, 2H]
  Rows2d scoring;    ///< [sequences, H] f32: `hidden` of scoring tiles
  std::vector<double> head_vectors;  ///< [queries × exits × H]: w + M q, written by the query's own tile
  Scores scores;
  Standings standings;
};

inline Rows2d rows_from(const Rows2d& m, int first) {
  Rows2d r = m;
  r.data += first * m.stride;
  return r;
}

inline Rows2d columns_from(const Rows2d& m, int first) {
  Rows2d r = m;
  r.data += first * size_of(m.element);
  return r;
}

}  // namespace matryoshka::cpu
