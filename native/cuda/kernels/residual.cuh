// output = norm(hidden + branch), a warp a row. After a compaction `hidden` still lies as before it and is read through
// the row map: this is where rows move to their new places.
#pragma once

#include "cuda/kernels/row.cuh"

namespace matryoshka::cuda {

struct ResidualArgs {
  const int* rows;            ///< number of rows
  const int* row_map;         ///< [rows] row of `hidden` for each, or null: the same
  const void *hidden, *branch;  ///< `stride` elements a row
  const void *weight, *bias;  ///< [stride] of the norm; a layer norm's alone has a bias
  void* output;               ///< [rows, stride]; may be `hidden` where there is no map
  int width, stride;
  float eps;
};

template <class E, int kWidth, Norm kNorm = Norm::layer>
KERNEL(kRowThreads, 1)
residual(ResidualArgs args) {
  const int rows = load(args.rows);
  for (int r = first_row(); r < rows; r += row_step()) {
    Row<E, kWidth> row(args.stride);
    row.add(row_of<E>(args.hidden, args.row_map ? load(args.row_map + r) : r, args.stride));
    row.add(row_of<E>(args.branch, r, args.stride));
    row.template normalize<kNorm>(args.width, args.eps, args.weight, args.bias);
    row.put(row_of<E>(args.output, r, args.stride));
  }
}

}  // namespace matryoshka::cuda
