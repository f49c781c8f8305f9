// logits[sequence, exit] = weight · row + bias, a warp a sequence.
#pragma once

#include "cuda/kernels/active_set.cuh"
#include "cuda/kernels/row.cuh"

namespace matryoshka::cuda {

struct HeadArgs {
  ActiveSetView active;
  const void* rows;     ///< `stride` elements a row
  bool token_rows;      ///< a sequence's row is its first token's; else row s belongs to sequence s
  const void* weight;   ///< [stride]
  float bias;
  float* logits;        ///< [n, exits] by sequence of the batch
  int stride, exits, exit;
};

template <class E, int kWidth>
KERNEL(kRowThreads, 1)
head(HeadArgs args) {
  const int sequences = load(args.active.counts + kSequences);
  for (int s = first_row(); s < sequences; s += row_step()) {
    Row<E, kWidth> row(args.stride);
    row.add(row_of<E>(args.rows, args.token_rows ? load(args.active.cu_seqlens + s) : s, args.stride));
    const float logit = row.dot(args.weight) + args.bias;
    if (thread_index() % 32 == 0) store(args.logits + static_cast<size_t>(load(args.active.sequences + s)) * args.exits + args.exit, logit);
  }
}

}  // namespace matryoshka::cuda
