#include "engine/active_set.h"

#include <numeric>
#include <random>

#include "check.h"

namespace matryoshka {
namespace {

TEST("compaction keeps the order, the lists and exactly the rows of the survivors, whoever stops") {
  std::mt19937 random(7);
  for (int round = 0; round < 500; ++round) {
    TokenBatch batch;
    batch.cu_seqlens = {0};
    batch.list_offsets = {0};
    for (int list = 0; list < 1 + static_cast<int>(random() % 4); ++list) {
      const int size = 1 + static_cast<int>(random() % 6);
      for (int i = 0; i < size; ++i) batch.cu_seqlens.push_back(batch.cu_seqlens.back() + 1 + static_cast<int>(random() % 5));
      batch.list_offsets.push_back(batch.list_offsets.back() + size);
    }
    ActiveSet active = ActiveSet::all(batch);
    std::vector<int> rows(active.rows());
    std::iota(rows.begin(), rows.end(), 0);
    for (int step = 0; step < 3; ++step) {
      const ActiveSet before = active;
      std::vector<uint8_t> stop(active.size());
      for (uint8_t& s : stop) s = random() % 3 == 0;
      for (const RowMove& move : compact(active, stop)) {
        CHECK(move.to < move.from);
        std::copy(rows.begin() + move.from, rows.begin() + move.from + move.rows, rows.begin() + move.to);
      }
      std::vector<int> survivors;
      for (int i = 0; i < before.size(); ++i)
        if (!stop[i]) survivors.push_back(before.sequences[i]);
      CHECK(active.sequences == survivors);
      CHECK_EQ(active.list_offsets.size(), before.list_offsets.size());
      CHECK_EQ(active.list_offsets.back(), active.size());
      for (int i = 0; i < active.size(); ++i) {
        const int sequence = active.sequences[i], first = batch.cu_seqlens[sequence];
        CHECK_EQ(active.cu_seqlens[i + 1] - active.cu_seqlens[i], batch.cu_seqlens[sequence + 1] - first);
        for (int r = active.cu_seqlens[i]; r < active.cu_seqlens[i + 1]; ++r) CHECK_EQ(rows[r], first + r - active.cu_seqlens[i]);
      }
    }
  }
}

}  // namespace
}  // namespace matryoshka
