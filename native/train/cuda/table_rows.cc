#include "train/cuda/table_rows.h"

#include <algorithm>
#include <numeric>

namespace matryoshka::train {

TableRows TableRows::of(const std::vector<int32_t>& row_of_token) {
  const int tokens = static_cast<int>(row_of_token.size());
  TableRows out;
  out.order.resize(tokens);
  std::iota(out.order.begin(), out.order.end(), 0);
  std::stable_sort(out.order.begin(), out.order.end(), [&](int a, int b) { return row_of_token[a] < row_of_token[b]; });
  for (int i = 0; i < tokens; ++i) {
    const int row = row_of_token[out.order[i]];
    if (out.rows.empty() || out.rows.back() != row) {
      out.rows.push_back(row);
      out.starts.push_back(static_cast<int>(out.segments.size()));
      out.segments.push_back(i);
    } else if (i - out.segments.back() == kSegment) {
      out.segments.push_back(i);
    }
  }
  out.starts.push_back(static_cast<int>(out.segments.size()));
  out.segments.push_back(tokens);
  return out;
}

}  // namespace matryoshka::train
