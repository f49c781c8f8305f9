// The scoring row of each sequence, its first, copied side by side; a warp a sequence.
#pragma once

#include "cuda/kernels/active_set.cuh"
#include "cuda/kernels/row.cuh"

namespace matryoshka::cuda {

struct GatherArgs {
  ActiveSetView active;
  const void* hidden;  ///< [tokens, row_chunks · 16 bytes]
  void* scoring;       ///< [sequences, row_chunks · 16 bytes]
  int row_chunks;
};

KERNEL(kRowThreads, 1)
gather(GatherArgs args) {
  const int sequences = load(args.active.counts + kSequences);
  for (int s = first_row(); s < sequences; s += row_step()) {
    const Chunk* const from = static_cast<const Chunk*>(args.hidden) + static_cast<size_t>(load(args.active.cu_seqlens + s)) * args.row_chunks;
    Chunk* const to = static_cast<Chunk*>(args.scoring) + static_cast<size_t>(s) * args.row_chunks;
    for (int c = thread_index() % 32; c < args.row_chunks; c += 32) store(to + c, load(from + c));
  }
}

}  // namespace matryoshka::cuda
