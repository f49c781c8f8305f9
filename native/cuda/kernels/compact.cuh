// Squeezes those who stop out of the active set. No activation moves: the new set says where each row was, and the ops
// that finish the layer read through that.
#pragma once

#include "cuda/instructions/memory.cuh"
#include "cuda/kernels/active_set.cuh"
#include "cuda/kernels/row.cuh"

namespace matryoshka::cuda {

struct CompactArgs {
  ActiveSetView from, to;     ///< two sets, so that nobody reads what another has rewritten
  const unsigned char* stop;  ///< [active]
  int* slots;                 ///< [active + 1] scratch: how many before each stay
  unsigned char* exit_layers; ///< [n] by sequence of the batch: set for those who stop
  unsigned char layer;
  int query_block;            ///< rows of queries that are one item of attention's work
};

constexpr int kCompactThreads = 256;

/// The sum of `value` over the threads before this one; `total` over all. `warps` is shared scratch, an int a warp.
DEVICE int block_scan(int value, int* warps, int& total) {
  const int lane = thread_index() % 32, warp = thread_index() / 32;
  int sum = value;
  UNROLL for (int distance = 1; distance < 32; distance *= 2) {
    const int before = shuffle_up(sum, distance);
    if (lane >= distance) sum += before;
  }
  if (lane == 31) store_shared(warps + warp, sum);
  sync_block();
  int before = 0;
  total = 0;
  UNROLL for (int w = 0; w < kCompactThreads / 32; ++w) {
    const int s = load_shared(warps + w);
    if (w < warp) before += s;
    total += s;
  }
  sync_block();  // the next scan writes `warps`
  return before + sum - value;
}

/// One block: the order of the survivors is the order they had, and no atomic decides anything.
KERNEL(kCompactThreads, 1)
compact(CompactArgs args) {
  int* const warps = reinterpret_cast<int*>(shared_memory());
  const ActiveSetView from = args.from, to = args.to;
  const int n = load(from.counts + kSequences);
  int sequences = 0, rows = 0, items = 0;
  for (int base = 0; base < n; base += kCompactThreads) {
    const int i = base + thread_index();
    const bool inside = i < n, keep = inside && !load(args.stop + i);
    const int sequence = inside ? load(from.sequences + i) : 0;
    const int source = inside ? load(from.cu_seqlens + i) : 0, length = keep ? load(from.cu_seqlens + i + 1) - source : 0;
    const int blocks = (length + args.query_block - 1) / args.query_block;
    int kept, kept_rows, kept_items;
    const int slot = sequences + block_scan(keep, warps, kept);
    const int row = rows + block_scan(length, warps, kept_rows);
    const int item = items + block_scan(blocks, warps, kept_items);
    if (inside) store(args.slots + i, slot);
    if (inside && !keep) store(args.exit_layers + sequence, args.layer);
    if (keep) {
      store(to.sequences + slot, sequence);
      store(to.cu_seqlens + slot, row);
      store(to.source_rows + slot, source);
      for (int b = 0; b < blocks; ++b) store(to.work + item + b, slot << kBlockBits | b);
    }
    sequences += kept;
    rows += kept_rows;
    items += kept_items;
  }
  if (thread_index() == 0) {
    store(args.slots + n, sequences);
    store(to.cu_seqlens + sequences, rows);
    store(to.counts + kSequences, sequences);
    store(to.counts + kRows, rows);
    store(to.counts + kWorkItems, items);
    store(to.counts + kLists, load(from.counts + kLists));
  }
  sync_block();
  const int lists = load(from.counts + kLists);
  for (int l = thread_index(); l <= lists; l += kCompactThreads) store(to.list_offsets + l, load(args.slots + load(from.list_offsets + l)));
}

struct MapRowsArgs {
  ActiveSetView active;
  int* row_map;  ///< [rows] out: where each row lay before the compaction
};

/// A warp a sequence.
KERNEL(kRowThreads, 1)
map_rows(MapRowsArgs args) {
  const int sequences = load(args.active.counts + kSequences);
  for (int s = first_row(); s < sequences; s += row_step()) {
    const int begin = load(args.active.cu_seqlens + s), end = load(args.active.cu_seqlens + s + 1), source = load(args.active.source_rows + s);
    for (int r = begin + thread_index() % 32; r < end; r += 32) store(args.row_map + r, source + r - begin);
  }
}

}  // namespace matryoshka::cuda
