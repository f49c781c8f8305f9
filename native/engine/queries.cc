#include "engine/queries.h"

#include <algorithm>
#include <limits>

namespace matryoshka {
namespace {

struct Span {
  const int32_t *begin, *end;
  bool operator==(const Span& other) const { return std::equal(begin, end, other.begin, other.end); }
};

Span query_in(const TokenBatch& batch, int sequence) {
  const int32_t* const begin = batch.token_ids.data() + batch.cu_seqlens[sequence];
  const int32_t* const last = batch.token_ids.data() + batch.cu_seqlens[sequence + 1] - 1;
  return {begin, std::find(begin, last, *last) + 1};
}

}  // namespace

TokenBatch with_queries(const TokenBatch& batch) {
  TokenBatch out;
  out.cu_seqlens = {0};
  std::vector<int32_t> query_of;
  Span before{nullptr, nullptr};
  for (int s = 0; s < batch.sequences(); ++s) {
    const Span query = query_in(batch, s);
    if (s == 0 || !(query == before)) {
      out.token_ids.insert(out.token_ids.end(), query.begin, query.end);
      out.cu_seqlens.push_back(static_cast<int32_t>(out.token_ids.size()));
      ++out.queries;
    }
    query_of.push_back(out.queries - 1);
    before = query;
  }
  const int32_t tokens = out.cu_seqlens.back();
  out.query_of.assign(out.queries, -1);
  out.query_of.insert(out.query_of.end(), query_of.begin(), query_of.end());
  out.token_ids.insert(out.token_ids.end(), batch.token_ids.begin(), batch.token_ids.end());
  if (!batch.type_ids.empty()) {
    out.type_ids.assign(tokens, 0);
    out.type_ids.insert(out.type_ids.end(), batch.type_ids.begin(), batch.type_ids.end());
  }
  for (int s = 1; s <= batch.sequences(); ++s) out.cu_seqlens.push_back(tokens + batch.cu_seqlens[s]);
  for (int q = 0; q < out.queries; ++q) out.list_offsets.push_back(q);
  for (const int32_t offset : batch.list_offsets) out.list_offsets.push_back(out.queries + offset);
  return out;
}

void add_queries(HeadKind head, TokenBatch& batch, ExitRule& rule) {
  if (head != HeadKind::query) return;
  batch = with_queries(batch);
  if (!rule.difficulty.empty()) rule.difficulty.insert(rule.difficulty.begin(), batch.queries, std::numeric_limits<float>::infinity());
}

}  // namespace matryoshka
