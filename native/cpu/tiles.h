// Cuts the active sequences into tiles: runs of whole sequences small enough to stay in a core's cache.
#pragma once

#include <vector>

#include "engine/active_set.h"

namespace matryoshka::cpu {

/// Active sequences first … last - 1.
struct Tile {
  int first = 0, last = 0;
};

/// Tiles of about `most` tokens, fewer where that would leave threads idle. A longer sequence is a tile of its own. The
/// first `queries` sequences share no tile with others.
std::vector<Tile> cut_by_tokens(const ActiveSet& active, int queries, int threads, int most);
/// Tiles of at most `most` sequences, one a thread where that suffices: their few rows read all of a layer's weights. Queries
/// as above.
std::vector<Tile> cut_by_sequences(const ActiveSet& active, int queries, int threads, int most);

}  // namespace matryoshka::cpu
