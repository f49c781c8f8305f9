#include "cpu/tiles.h"

#include <algorithm>

namespace matryoshka::cpu {
namespace {

/// Enough tiles a thread that the last ones to finish do not matter, as long as they are worth a kernel's start-up.
constexpr int kTilesPerThread = 4;

int tile_size(int total, int tiles, int least, int most) { return std::clamp((total + tiles - 1) / tiles, least, most); }

}  // namespace

std::vector<Tile> cut_by_tokens(const ActiveSet& active, int queries, int threads, int most) {
  const int size = tile_size(active.rows(), threads * kTilesPerThread, 32, most);
  std::vector<Tile> tiles;
  for (int s = 0; s < active.size();) {
    Tile tile{s, s + 1};
    while (tile.last < active.size() && tile.last != queries && active.cu_seqlens[tile.last + 1] - active.cu_seqlens[s] <= size) ++tile.last;
    tiles.push_back(tile);
    s = tile.last;
  }
  return tiles;
}

std::vector<Tile> cut_by_sequences(const ActiveSet& active, int queries, int threads, int most) {
  const int size = tile_size(active.size(), threads, 8, most);
  std::vector<Tile> tiles;
  for (int s = 0; s < active.size(); s = tiles.back().last) tiles.push_back({s, std::min(s + size, s < queries ? queries : active.size())});
  return tiles;
}

}  // namespace matryoshka::cpu
