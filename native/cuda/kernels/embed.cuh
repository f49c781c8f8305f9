// hidden = norm(word + position + type), a warp a token.
#pragma once

#include "cuda/kernels/row.cuh"

namespace matryoshka::cuda {

struct EmbedArgs {
  const int* rows;                    ///< number of tokens
  const int *tokens, *positions, *types;  ///< [rows] rows of the three tables
  const void *word, *position, *type;  ///< tables, `stride` elements a row
  const void *weight, *bias;           ///< [stride] of the norm
  void* hidden;                        ///< [rows, stride]
  int width, stride;
  float eps;
};

template <class E, int kWidth>
KERNEL(kRowThreads, 1)
embed(EmbedArgs args) {
  const int rows = load(args.rows);
  for (int r = first_row(); r < rows; r += row_step()) {
    Row<E, kWidth> row(args.stride);
    row.add(row_of<E>(args.word, load(args.tokens + r), args.stride));
    row.add(row_of<E>(args.position, load(args.positions + r), args.stride));
    row.add(row_of<E>(args.type, load(args.types + r), args.stride));
    row.template normalize<Norm::layer>(args.width, args.eps, args.weight, args.bias);
    row.put(row_of<E>(args.hidden, r, args.stride));
  }
}

}  // namespace matryoshka::cuda
