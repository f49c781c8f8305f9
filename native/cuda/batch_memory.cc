#include "cuda/batch_memory.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "model/error.h"

namespace matryoshka::cuda {
namespace {

ActiveSetView take_active_set(Carver& carver, const BatchSizes& sizes) {
  ActiveSetView v;
  v.counts = carver.take<int>(kCounts);
  v.sequences = carver.take<int>(sizes.sequences);
  v.cu_seqlens = carver.take<int>(sizes.sequences + 1);
  v.source_rows = carver.take<int>(sizes.sequences);
  v.list_offsets = carver.take<int>(sizes.lists + 1);
  v.work = carver.take<int>(sizes.work_items);
  return v;
}

}  // namespace

BatchSizes BatchSizes::of(const TokenBatch& batch, int exits, bool compensated, int query_block) {
  BatchSizes s{batch.sequences(), batch.tokens(), batch.lists(), 0, exits, compensated};
  if (s.sequences >= 1 << (31 - kBlockBits))
    throw Error("ERR_INVALID_ARGUMENT", "Expected fewer than " + std::to_string(1 << (31 - kBlockBits)) + " sequences in a batch but received " +
                                            std::to_string(s.sequences) + "; send fewer at a time");
  for (int i = 0; i < s.sequences; ++i) {
    const int blocks = (batch.cu_seqlens[i + 1] - batch.cu_seqlens[i] + query_block - 1) / query_block;
    if (blocks > 1 << kBlockBits)
      throw Error("ERR_INPUT_TOO_LONG", "Expected at most " + std::to_string((1 << kBlockBits) * query_block) + " tokens in a sequence on this device");
    s.work_items += blocks;
  }
  return s;
}

namespace {

/// Up to a quarter more: 1.25, 1.5, 1.75 or 2 times a power of two.
int with_room(int size, int before) {
  if (size <= before) return before;
  int step = 16;
  while (step * 4 < size) step *= 2;
  return (size + step - 1) / step * step;
}

}  // namespace

BatchSizes BatchSizes::roomier(const BatchSizes& before) const {
  BatchSizes s = *this;
  s.sequences = with_room(sequences, before.sequences);
  s.tokens = with_room(tokens, before.tokens);
  s.lists = with_room(lists, before.lists);
  s.work_items = with_room(work_items, before.work_items);
  return s;
}

BatchInput::BatchInput(Carver& carver, const BatchSizes& sizes)
    : tokens(carver.take<int>(sizes.tokens)),
      positions(carver.take<int>(sizes.tokens)),
      types(carver.take<int>(sizes.tokens)),
      active(take_active_set(carver, sizes)),
      list_offsets(carver.take<int>(sizes.lists + 1)),
      queries(carver.take<int>(1)),
      query_of(carver.take<int>(sizes.sequences)),
      difficulty(carver.take<float>(sizes.sequences)),
      discounts(carver.take<float>(kMostDiscounts)) {}

void write(const BatchInput& staging, const TokenBatch& batch, int position_offset, int query_block) {
  const int n = batch.sequences(), tokens = batch.tokens();
  std::memcpy(staging.tokens, batch.token_ids.data(), sizeof(int) * tokens);
  if (batch.type_ids.empty()) std::memset(staging.types, 0, sizeof(int) * tokens);
  else std::memcpy(staging.types, batch.type_ids.data(), sizeof(int) * tokens);
  const ActiveSetView& active = staging.active;
  int items = 0;
  for (int s = 0; s < n; ++s) {
    const int begin = batch.cu_seqlens[s], end = batch.cu_seqlens[s + 1];
    for (int t = begin; t < end; ++t) staging.positions[t] = t - begin + position_offset;
    for (int block = 0; block * query_block < end - begin; ++block) active.work[items++] = s << kBlockBits | block;
    active.sequences[s] = s;
    active.source_rows[s] = begin;
  }
  std::memcpy(active.cu_seqlens, batch.cu_seqlens.data(), sizeof(int) * (n + 1));
  std::memcpy(active.list_offsets, batch.list_offsets.data(), sizeof(int) * batch.list_offsets.size());
  std::memcpy(staging.list_offsets, batch.list_offsets.data(), sizeof(int) * batch.list_offsets.size());
  *staging.queries = batch.queries;
  std::copy(batch.query_of.begin(), batch.query_of.end(), staging.query_of);
  active.counts[kSequences] = n;
  active.counts[kRows] = tokens;
  active.counts[kWorkItems] = items;
  active.counts[kLists] = batch.lists();
}

BatchResults::BatchResults(Carver& carver, const BatchSizes& sizes)
    : logits(carver.take<float>(static_cast<size_t>(sizes.sequences) * sizes.exits)),
      estimates(sizes.compensated ? carver.take<float>(static_cast<size_t>(sizes.sequences) * sizes.exits) : nullptr),
      units(sizes.compensated ? carver.take<float>(static_cast<size_t>(sizes.sequences) * sizes.exits) : nullptr),
      exit_layers(carver.take<unsigned char>(sizes.sequences)) {}

BatchActivations::BatchActivations(Carver& carver, const BatchSizes& sizes, const PaddedShape& shape, ElementType type) {
  const size_t element = bytes_of(type), tokens = sizes.tokens * element, sequences = sizes.sequences * element;
  hidden[0] = carver.take(tokens * shape.hidden);
  hidden[1] = carver.take(tokens * shape.hidden);
  key_value = carver.take(tokens * 2 * shape.attention);
  query = carver.take(tokens * shape.attention);
  context = carver.take(tokens * shape.attention);
  branch = carver.take(tokens * shape.hidden);
  mlp = carver.take(tokens * shape.intermediate);
  scoring = carver.take(sequences * shape.hidden);
  pooled = carver.take(sequences * shape.hidden);
  other = take_active_set(carver, sizes);
  row_map = carver.take<int>(sizes.tokens);
  low = carver.take<float>(sizes.sequences);
  high = carver.take<float>(sizes.sequences);
  terms = carver.take<double>(sizes.sequences);
  place = carver.take<double>(sizes.sequences);
  span = carver.take<double>(sizes.sequences);
  gain = carver.take<double>(sizes.sequences);
  level = carver.take<double>(sizes.lists);
  rank = carver.take<int>(sizes.sequences);
  stop = carver.take<unsigned char>(sizes.sequences);
  slots = carver.take<int>(sizes.sequences + 1);
}

}  // namespace matryoshka::cuda
