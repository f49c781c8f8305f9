#include "cpu/tile_ops.h"

#include <cmath>
#include <cstring>

namespace matryoshka::cpu {
namespace {

StoredRow stored_row(const Tensor& table, int64_t row) {
  return {table.data + row * table.shape[1] * size_of(table.type), table.type};
}

/// Whole rows in their order, which the hardware does not foresee where heads read them a few columns at a time.
void prefetch(const Rows2d& m, int first, int last) {
  for (const std::byte *line = m.row(first), *end = m.row(last); line < end; line += 64) __builtin_prefetch(line, 0, 2);
}

}  // namespace

int TileOps::row_count() const {
  return rows_ == Rows::tokens ? state_.active.cu_seqlens[tile_.last] - state_.active.cu_seqlens[tile_.first] : tile_.last - tile_.first;
}

Rows2d TileOps::slot(Slot which) const {
  const int first_token = state_.active.cu_seqlens[tile_.first];
  switch (which) {
    case Slot::hidden:
      return rows_ == Rows::tokens ? rows_from(state_.hidden, first_token) : rows_from(state_.scoring, tile_.first);
    case Slot::key_value:
      return rows_from(state_.key_value, first_token);
    case Slot::query:
      return workspace_.query;
    case Slot::context:
      return workspace_.context;
    case Slot::branch:
      return workspace_.branch;
    case Slot::mlp:
      break;
  }
  return workspace_.mlp;
}

Rows2d TileOps::input(Slot which, const Panels& weight) {
  const Rows2d from = slot(which);
  const Element wanted = input_of(weight.format);
  if (from.element == wanted) return from;
  const Rows2d& to = wanted == Element::bf16 ? workspace_.bf16_input : workspace_.integer_input;
  if (!(which == Slot::hidden && hidden_as_ == wanted)) kernels_.convert(row_count(), weight.k, from, to);
  if (which == Slot::hidden) hidden_as_ = wanted;
  else if (hidden_as_ == wanted) hidden_as_ = Element::f32;
  return to;
}

void TileOps::embed() {
  const EmbeddingSource tables = checkpoint_.embedding();
  EmbedRow call;
  call.n = a_.hidden;
  call.weight = model_.embedding_norm.weight.data();
  call.bias = model_.embedding_norm.bias.data();
  call.eps = a_.norm_eps;
  const TokenBatch& batch = *state_.batch;
  int row = state_.active.cu_seqlens[tile_.first];
  for (int s = tile_.first; s < tile_.last; ++s) {
    const int first = batch.cu_seqlens[state_.active.sequences[s]], last = batch.cu_seqlens[state_.active.sequences[s] + 1];
    for (int t = first; t < last; ++t, ++row) {
      call.word = stored_row(*tables.word, batch.token_ids[t]);
      call.position = stored_row(*tables.position, t - first + a_.position_offset);
      call.type = stored_row(*tables.type, batch.type_ids.empty() ? 0 : batch.type_ids[t]);
      call.out = reinterpret_cast<float*>(state_.hidden.row(row));
      kernels_.embed_row(call);
    }
  }
  hidden_as_ = Element::f32;
}

void TileOps::gather() {
  for (int s = tile_.first; s < tile_.last; ++s)
    std::memcpy(state_.scoring.row(s), state_.hidden.row(state_.active.cu_seqlens[s]), a_.hidden * sizeof(float));
  hidden_as_ = Element::f32;
}

void TileOps::linear(int layer, Projection which, Slot in, Slot out) {
  Gemm call;
  call.rows = row_count();
  call.weight = &model_.layers[layer].linear[static_cast<int>(which)];
  call.input = input(in, *call.weight);
  call.output = slot(out);
  call.epilogue = which == Projection::up ? epilogue_of(a_.activation) : Epilogue::none;
  call.scratch = workspace_.gemm;
  kernels_.gemm(call);
}

void TileOps::attention() {
  Attention call;
  call.heads = a_.heads;
  call.head_dim = a_.head_dim;
  call.scratch = workspace_.attention;
  const std::vector<int32_t>& cu_seqlens = state_.active.cu_seqlens;
  for (int s = tile_.first; s < tile_.last; ++s) {
    call.keys = cu_seqlens[s + 1] - cu_seqlens[s];
    call.queries = rows_ == Rows::tokens ? call.keys : 1;
    if (rows_ == Rows::scoring && s + 1 < tile_.last) prefetch(state_.key_value, cu_seqlens[s + 1], cu_seqlens[s + 2]);
    const int row = rows_ == Rows::tokens ? cu_seqlens[s] - cu_seqlens[tile_.first] : s - tile_.first;
    call.query = rows_from(workspace_.query, row);
    call.context = rows_from(workspace_.context, row);
    call.key = rows_from(state_.key_value, cu_seqlens[s]);
    call.value = columns_from(call.key, a_.hidden);
    kernels_.attention(call);
  }
}

void TileOps::residual(int layer, Site site) {
  const Norm& norm = model_.layers[layer].norm[static_cast<int>(site)];
  kernels_.residual_norm({row_count(), a_.hidden, slot(Slot::hidden), workspace_.branch, norm.weight.data(), norm.bias.data(), a_.norm_eps});
  hidden_as_ = Element::f32;
}

double* TileOps::head_vector(int exit, int query) const {
  return &state_.head_vectors[(static_cast<size_t>(query) * model_.heads.size() + exit) * a_.hidden];
}

void TileOps::condition(int exit, int query, const float* row) {
  const PackedModel::Head& head = model_.heads[exit];
  double* const out = head_vector(exit, query);
  constexpr int kLanes = 8;  // sums of their own, which vectors can hold
  const int whole = a_.hidden / kLanes * kLanes;
  for (int o = 0; o < a_.hidden; ++o) {
    const float* const m = &head.query[static_cast<size_t>(o) * a_.hidden];
    double sums[kLanes] = {};
    for (int i = 0; i < whole; i += kLanes)
      for (int j = 0; j < kLanes; ++j) sums[j] += static_cast<double>(m[i + j]) * row[i + j];
    out[o] = head.weight[o];
    for (int i = whole; i < a_.hidden; ++i) out[o] += static_cast<double>(m[i]) * row[i];
    for (const double sum : sums) out[o] += sum;
  }
}

void TileOps::head(int exit) {
  const PackedModel::Head& head = model_.heads[exit];
  if (tile_.first >= state_.batch->queries) queries_ready_();
  for (int s = tile_.first; s < tile_.last; ++s) {
    const Rows2d state = rows_ == Rows::tokens ? rows_from(state_.hidden, state_.active.cu_seqlens[s]) : rows_from(state_.scoring, s);
    const float* const scoring = reinterpret_cast<const float*>(state.data);
    const int sequence = state_.active.sequences[s];
    if (sequence < state_.batch->queries) {
      condition(exit, sequence, scoring);
      continue;
    }
    Rows2d row = state;
    if (head.dense.n) {
      Gemm call;
      call.rows = 1;
      call.weight = &head.dense;
      call.input = row;
      call.output = workspace_.branch;
      call.scratch = workspace_.gemm;
      kernels_.gemm(call);
      row = workspace_.branch;
    }
    const float* x = reinterpret_cast<const float*>(row.data);
    double logit = head.bias;
    if (state_.batch->queries > 0) {
      const double* const vector = head_vector(exit, state_.batch->query_of[sequence]);
      for (int i = 0; i < a_.hidden; ++i) logit += vector[i] * x[i];
    } else {
      for (int i = 0; i < a_.hidden; ++i) logit += static_cast<double>(head.weight[i]) * (head.dense.n ? std::tanh(x[i]) : x[i]);
    }
    put_score(state_.scores, model_.compensations, sequence, exit, scoring, a_.hidden, static_cast<float>(logit), head.carry);
  }
}

}  // namespace matryoshka::cpu
