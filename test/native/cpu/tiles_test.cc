#include "cpu/tiles.h"

#include <random>

#include "check.h"

using namespace matryoshka;

namespace {

ActiveSet lengths(const std::vector<int>& tokens) {
  ActiveSet active;
  active.cu_seqlens.push_back(0);
  for (const int n : tokens) {
    active.sequences.push_back(active.size());
    active.cu_seqlens.push_back(active.cu_seqlens.back() + n);
  }
  active.list_offsets = {0, active.size()};
  return active;
}

void check_covers(const ActiveSet& active, const std::vector<cpu::Tile>& tiles) {
  int next = 0;
  for (const cpu::Tile& tile : tiles) {
    CHECK_EQ(tile.first, next);
    CHECK(tile.last > tile.first);
    next = tile.last;
  }
  CHECK_EQ(next, active.size());
}

}  // namespace

TEST("tiles cover every sequence once, in order, and hold no more tokens than asked unless one sequence does") {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<int> tokens(random() % 50);
    for (int& n : tokens) n = 1 + static_cast<int>(random() % 300);
    const ActiveSet active = lengths(tokens);
    const std::vector<cpu::Tile> tiles = cpu::cut_by_tokens(active, 0, 1 + static_cast<int>(random() % 4), 128);
    check_covers(active, tiles);
    for (const cpu::Tile& tile : tiles)
      CHECK(tile.last - tile.first == 1 || active.cu_seqlens[tile.last] - active.cu_seqlens[tile.first] <= 128);
    check_covers(active, cpu::cut_by_sequences(active, 0, 2, 8));
  }
}

TEST("a small batch is cut finer, so that every thread has something to do") {
  const ActiveSet active = lengths(std::vector<int>(8, 40));
  CHECK(cpu::cut_by_tokens(active, 0, 2, 1000).size() >= 4);
}

TEST("nothing active is no tile") {
  CHECK(cpu::cut_by_tokens(lengths({}), 0, 2, 128).empty());
  CHECK(cpu::cut_by_sequences(lengths({}), 0, 2, 8).empty());
}
