// The sequences still running, in device memory: every kernel takes its sizes from here, and only compaction rewrites it.
#pragma once

#include "cuda/instructions/thread.cuh"

namespace matryoshka::cuda {

/// Places in `counts`.
enum Count { kSequences, kRows, kWorkItems, kLists, kCounts };

/// Sequences keep their batch order, so lists stay neighbours; a list may become empty. A plain view, passed by value.
struct ActiveSetView {
  int* counts;        ///< [kCounts]
  int* sequences;     ///< [n] index into the batch
  int* cu_seqlens;    ///< [n + 1] first row of each in dense activations
  int* source_rows;   ///< [n] first row of each in `hidden` and `key_value` as they were before the last compaction
  int* list_offsets;  ///< [lists + 1] into sequences
  int* work;          ///< [items] attention's blocks of queries: sequence << kBlockBits | block
};

/// Up to 1,024 blocks of queries a sequence, and two million sequences.
constexpr int kBlockBits = 10;

}  // namespace matryoshka::cuda
