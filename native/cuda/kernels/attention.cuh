// What both attention kernels share: softmax(query keysᵀ / sqrt(d)) values over sequences of any length, without
// padding, one block of queries of one head at a time. What a query may see is a type, so that no family pays for another.
#pragma once

#include "cuda/kernels/active_set.cuh"
#include "cuda/kernels/tile.cuh"

namespace matryoshka::cuda {

struct AttentionArgs {
  const void* query;      ///< [rows, heads · d]
  const void* key_value;  ///< [tokens, 2 · key_heads · d], keys first
  void* context;          ///< as query
  ActiveSetView active;
  bool scoring;     ///< one query a sequence (row s of query belongs to sequence s) instead of every token
  bool compacted;   ///< keys and values still lie where they were before the last compaction
  int heads, key_heads;  ///< heads / key_heads neighbours share keys and values
  float scale;      ///< 1 / sqrt(head dimension of the model)
};

/// Encoders: a query sees every key of its sequence.
struct Bidirectional {
  using Args = AttentionArgs;
  static constexpr bool kMasks = false, kCaps = false;
};

struct CausalArgs : AttentionArgs {
  int window;     ///< keys that a query sees at most, itself the last
  float softcap;  ///< scores are drawn into ±softcap; of a variant that caps
};

/// Decoders: a query sees its own key and those before it. A scoring row is its sequence's last.
template <bool kCapped>
struct Causal {
  using Args = CausalArgs;
  static constexpr bool kMasks = true, kCaps = kCapped;
};

/// One block of queries of one head.
struct AttentionItem {
  int head, key_head;
  int first_query, queries;  ///< rows of query and context
  int first_position;        ///< of the first query in its sequence
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
    out.key_head = out.head / (args.heads / args.key_heads);
    out.first_position = args.scoring ? keys - 1 : block * rows;
    out.first_query = args.scoring ? sequence : begin + block * rows;
    out.queries = args.scoring ? 1 : left < rows ? left : rows;
    out.first_key = args.compacted ? load(args.active.source_rows + sequence) : begin;
    out.keys = keys;
    return out;
  }

  /// The keys that some query of the block sees, as a range of blocks of `rows` keys.
  template <class Variant>
  DEVICE int first_block(const typename Variant::Args& args, int rows) const {
    if constexpr (!Variant::kMasks) return 0;
    else return first_position < args.window ? 0 : (first_position - args.window + 1) / rows;
  }
  template <class Variant>
  DEVICE int end_block(int rows) const {
    const int last = first_position + queries;
    return ((Variant::kMasks && last < keys ? last : keys) + rows - 1) / rows;
  }
  /// Whether query `row` of the block sees the sequence's key `key`.
  template <class Variant>
  DEVICE bool sees(const typename Variant::Args& args, int row, int key) const {
    if constexpr (!Variant::kMasks) return key < keys;
    else return key < keys && key <= first_position + row && key > first_position + row - args.window;
  }

  static DEVICE int count(const AttentionArgs& args) {
    return load(args.active.counts + (args.scoring ? kSequences : kWorkItems)) * args.heads;
  }
};

}  // namespace matryoshka::cuda
