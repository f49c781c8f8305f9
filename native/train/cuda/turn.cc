#include "train/cuda/turn.h"

#include <algorithm>

namespace matryoshka::train {
namespace {

DeviceTableRows take(cuda::Carver& carver, const TableRows& rows) {
  const auto ints = [&](const std::vector<int32_t>& of) { return carver.take<int>(of.size()); };
  return {ints(rows.order), ints(rows.segments), ints(rows.rows), ints(rows.starts), static_cast<int>(rows.segments.size()) - 1, static_cast<int>(rows.rows.size())};
}

void copy(const std::vector<int32_t>& from, int* to) { std::copy(from.begin(), from.end(), to); }
void copy(const TableRows& from, const DeviceTableRows& to) {
  copy(from.order, to.order);
  copy(from.segments, to.segments);
  copy(from.rows, to.rows);
  copy(from.starts, to.starts);
}

}  // namespace

TurnInput::Lists::Lists(const TokenBatch& batch, int position_offset, int query_block)
    : tokens(batch.token_ids), types(batch.type_ids.empty() ? std::vector<int32_t>(batch.token_ids.size()) : batch.type_ids), cu_seqlens(batch.cu_seqlens) {
  for (int s = 0; s < batch.sequences(); ++s) {
    const int length = cu_seqlens[s + 1] - cu_seqlens[s];
    for (int t = 0; t < length; ++t) positions.push_back(t + position_offset);
    for (int block = 0; block * query_block < length; ++block) work.push_back(s << cuda::kBlockBits | block);
  }
  counts.resize(cuda::kCounts);
  counts[cuda::kSequences] = batch.sequences();
  counts[cuda::kRows] = batch.tokens();
  counts[cuda::kWorkItems] = static_cast<int>(work.size());
  word = TableRows::of(tokens);
  position = TableRows::of(positions);
  type = TableRows::of(types);
}

TurnInput::TurnInput(cuda::Carver& carver, const Lists& lists) {
  tokens = carver.take<int>(lists.tokens.size());
  positions = carver.take<int>(lists.positions.size());
  types = carver.take<int>(lists.types.size());
  cu_seqlens = carver.take<int>(lists.cu_seqlens.size());
  counts = carver.take<int>(lists.counts.size());
  work = carver.take<int>(lists.work.size());
  word = take(carver, lists.word);
  position = take(carver, lists.position);
  type = take(carver, lists.type);
}

void TurnInput::write(const Lists& lists) const {
  copy(lists.tokens, tokens);
  copy(lists.positions, positions);
  copy(lists.types, types);
  copy(lists.cu_seqlens, cu_seqlens);
  copy(lists.counts, counts);
  copy(lists.work, work);
  copy(lists.word, word);
  copy(lists.position, position);
  copy(lists.type, type);
}

TurnActivations::TurnActivations(cuda::Carver& carver, const Layout& layout, int tokens, int sequences) {
  const Architecture& a = layout.architecture;
  const size_t h = a.hidden, f = a.intermediate, t = tokens, n = sequences;
  for (int l = 0; l < a.layers; ++l) {
    const size_t rows = l + 1 == a.layers ? n : t;
    DeviceLayer layer;
    layer.input = carver.take<Element16>(t * h);
    layer.key_value = carver.take<Element16>(t * 2 * h);
    for (Element16** m : {&layer.query, &layer.context, &layer.attended, &layer.hat[0], &layer.hat[1]}) *m = carver.take<Element16>(rows * h);
    for (Element16** m : {&layer.mlp, &layer.activated}) *m = carver.take<Element16>(rows * f);
    for (float*& inverse : layer.inverse) inverse = carver.take<float>(rows);
    layers.push_back(layer);
  }
  for (float** m : {&hidden, &hidden_gradient, &branch}) *m = carver.take<float>(t * h);
  for (float** m : {&scoring, &scoring_gradient}) *m = carver.take<float>(n * h);
  scoring_input = carver.take<Element16>(n * h);
  embedding_hat = carver.take<Element16>(t * h);
  embedding_inverse = carver.take<float>(t);
  for (float** m : {&exit_rows, &exit_gradients}) *m = carver.take<float>(layout.heads.size() * n * h);
  for (Element16** m : {&branch_gradient, &context_gradient, &query_gradient}) *m = carver.take<Element16>(t * h);
  key_value_gradient = carver.take<Element16>(t * 2 * h);
  mlp_gradient = carver.take<Element16>(t * f);
  for (float** m : {&attention_sums, &attention_deltas}) *m = carver.take<float>(t * a.heads);
  size_t widest = 0;
  for (const LinearAt& linear : layout.blocks[0].linear) widest = std::max(widest, static_cast<size_t>(linear.out) * linear.in);
  const size_t splits = (t + kSplit - 1) / kSplit, table_segments = t;  // as many as there are tokens, where no two share a row
  partial = carver.take<float>(std::max({splits * widest, 2 * segments(tokens) * std::max(f, 2 * h), table_segments * h}));
}

}  // namespace matryoshka::train
