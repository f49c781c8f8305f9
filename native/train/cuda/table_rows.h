// Which tokens take which row of an embedding table, so that a row's gradient is summed by one owner in one order: in
// segments of bounded length first, since some rows have a token in every sequence.
#pragma once

#include <cstdint>
#include <vector>

namespace matryoshka::train {

struct TableRows {
  std::vector<int32_t> order;     ///< [T] tokens, by row and then by place
  std::vector<int32_t> segments;  ///< [segments + 1] into order
  std::vector<int32_t> rows;      ///< [rows in use] of the table, ascending
  std::vector<int32_t> starts;    ///< [rows in use + 1] into segments

  static TableRows of(const std::vector<int32_t>& row_of_token);

  static constexpr int kSegment = 64;
};

}  // namespace matryoshka::train
