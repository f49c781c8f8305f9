#include "cuda/padded_shape.h"

#include <string>

#include "model/error.h"

namespace matryoshka::cuda {
namespace {

int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

/// Index of the first entry that is at least `size`.
template <size_t kSize>
int fitting(const int (&sizes)[kSize], int size, const char* what) {
  for (size_t i = 0; i < kSize; ++i)
    if (size <= sizes[i]) return static_cast<int>(i);
  throw Error("ERR_UNSUPPORTED_ARCHITECTURE", std::string("Expected ") + what + " of at most " + std::to_string(sizes[kSize - 1]) +
                                                  " for this device but the model has " + std::to_string(size) + "; use device cpu");
}

}  // namespace

PaddedShape PaddedShape::of(const Architecture& a) {
  PaddedShape s;
  s.hidden = round_up(a.hidden, 64);
  s.intermediate = round_up(a.intermediate, 64);
  s.head_dim_index = fitting(kHeadDims, a.head_dim, "heads");
  s.row_width_index = fitting(kRowWidths, s.hidden, "a hidden size");
  s.head_dim = kHeadDims[s.head_dim_index];
  s.attention = round_up(a.heads * s.head_dim, 64);
  s.heads = s.attention / s.head_dim;
  return s;
}

}  // namespace matryoshka::cuda
