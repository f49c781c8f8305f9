// What both attention kernels share: softmax(query keysᵀ / sqrt(d)) values over sequences of any length, without
// padding, one block of queries of one head at a time.
#pragma once

#include "cuda/kernels/active_set.cuh"
#include "cuda/kernels/tile.cuh"

namespace matryoshka::cuda {

struct AttentionArgs {
  const void* query;      ///< [rows, heads · d]
  const void* key_value;  ///< [tokens, 2 · heads · d], keys first
  void* context;          ///< as query
  ActiveSetView active;
  bool scoring;     ///< one query a sequence (row s of query belongs to sequence s) instead of every token
  bool compacted;   ///< keys and values still lie where they were before the last compaction
  int heads;
  float scale;      ///< 1 / sqrt(head dimension of the model)
};

/// One block of queries of one head.
struct AttentionItem {
  int head;
  int first_query, queries;  ///< rows of query and context
  int first_key, keys;       ///< rows of key_value

  /// `rows` queries a block; heads vary fastest, so that neighbours share keys and values in L2.
  static DEVICE AttentionItem at(const AttentionArgs& args, int item, int rows) {
    const int index = item / args.heads;
    const int work = args.scoring ? index << kBlockBits : load(args.active.work + index);
    const int sequence = work >> kBlockBits, block = work & ((1 << kBlockBits) - 1);
    const int begin = load(args.active.cu_seqlens + sequence), keys = load(args.active.cu_seqlens + sequence + 1) - begin;
    const int left = keys - block * rows;
    AttentionItem out;
    out.head = item % args.heads;
    out.first_query = args.scoring ? sequence : begin + block * rows;
    out.queries = args.scoring ? 1 : left < rows ? left : rows;
    out.first_key = args.compacted ? load(args.active.source_rows + sequence) : begin;
    out.keys = keys;
    return out;
  }
  static DEVICE int count(const AttentionArgs& args) {
    return load(args.active.counts + (args.scoring ? kSequences : kWorkItems)) * args.heads;
  }
};

}  // namespace matryoshka::cuda
