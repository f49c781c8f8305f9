#include "train/cpu/tile_ops.h"

#include <algorithm>
#include <cstring>

#include "cpu/batch_state.h"
#include "train/heads.h"

namespace matryoshka::train {
namespace {

using cpu::columns_from;
using cpu::epilogue_of;
using cpu::rows_from;

float* floats(const Rows2d& m, int row) { return reinterpret_cast<float*>(m.row(row)); }

}  // namespace

void TileWorkspace::prepare(const Layout& layout, Element element, int rows, size_t attention_bytes) {
  const Architecture& a = layout.architecture;
  arena_.clear();
  arena_.matrix(branch, rows, a.hidden, Element::f32);
  for (Rows2d* m : {&branch_gradient, &context_gradient, &query_gradient}) arena_.matrix(*m, rows, a.hidden, element);
  arena_.matrix(key_value_gradient, rows, 2 * a.hidden, element);
  for (Rows2d* m : {&activated, &mlp_gradient}) arena_.matrix(*m, rows, a.intermediate, element);
  arena_.array(attention_floats_, attention_bytes / sizeof(float) + 1);
  arena_.place();
  attention = reinterpret_cast<std::byte*>(attention_floats_);
}

Rows2d TileOps::tile_rows(const Rows2d& m, int layer) const { return rows_from(m, first_row(layer)); }
Rows2d TileOps::tile_tokens(const Rows2d& m) const { return rows_from(m, first_token()); }
Rows2d TileOps::hidden(int layer) const { return tile_rows(is_last(layer) ? turn_.memory.scoring : turn_.memory.hidden, layer); }
Rows2d TileOps::hidden_gradient(int layer) const {
  return tile_rows(is_last(layer) ? turn_.memory.scoring_gradient : turn_.memory.hidden_gradient, layer);
}

float* TileOps::exit_hidden(int exit, int sequence, bool gradient) const {
  const TurnMemory& m = turn_.memory;
  if (is_last(layout_.exit_layers[exit] - 1)) return floats(gradient ? m.scoring_gradient : m.scoring, sequence);
  return floats(gradient ? m.hidden_gradient : m.hidden, turn_.batch->cu_seqlens[sequence]);
}

template <class Body>
void TileOps::each_sequence(int layer, const Body& body) const {
  const std::vector<int32_t>& cu_seqlens = turn_.batch->cu_seqlens;
  for (int s = tile_.first; s < tile_.last; ++s) {
    const int keys = cu_seqlens[s + 1] - cu_seqlens[s];
    body(cu_seqlens[s], keys, is_last(layer) ? s : cu_seqlens[s], is_last(layer) ? 1 : keys);
  }
}

void TileOps::multiply(int rows, const Rows2d& input, const cpu::Panels& weight, const Rows2d& output) const {
  cpu::Gemm call;
  call.rows = rows;
  call.input = input;
  call.weight = &weight;
  call.output = output;
  turn_.kernels->gemm(call);
}

void TileOps::enter(int layer) {
  const TurnMemory& m = turn_.memory;
  turn_.train_kernels->convert(token_count(), a_.hidden, tile_tokens(m.hidden), tile_tokens(m.kept[layer]));
  turn_.train_kernels->convert(token_count(), a_.hidden, tile_tokens(m.hidden), tile_tokens(m.input(layer)));
}

void TileOps::enter_again(int layer) {
  const TurnMemory& m = turn_.memory;
  turn_.train_kernels->convert(token_count(), a_.hidden, tile_tokens(m.kept[layer]), tile_tokens(m.hidden));
  turn_.train_kernels->convert(token_count(), a_.hidden, tile_tokens(m.kept[layer]), tile_tokens(m.input(layer)));
}

void TileOps::clear_norm_partials(int layer) {
  std::fill_n(turn_.memory.norm_partial(layer, Site::attention, index_), 4 * a_.hidden, 0.f);
}

void TileOps::embed() {
  const TurnMemory& m = turn_.memory;
  const TokenBatch& batch = *turn_.batch;
  const auto row = [&](size_t table, int r) { return turn_.weights + table + static_cast<size_t>(r) * a_.hidden; };
  for (int s = tile_.first; s < tile_.last; ++s)
    for (int t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t) {
      const float* word = row(layout_.word, batch.token_ids[t]);
      const float* position = row(layout_.position, t - batch.cu_seqlens[s] + a_.position_offset);
      const float* type = row(layout_.type, batch.type_ids.empty() ? 0 : batch.type_ids[t]);
      float* out = floats(m.hidden, t);
      for (int i = 0; i < a_.hidden; ++i) out[i] = word[i] + position[i] + type[i];
    }
  NormForward call;
  call.rows = token_count();
  call.n = a_.hidden;
  call.hidden = tile_tokens(m.hidden);
  call.hat = tile_tokens(m.embedding_hat);
  if (!m.size().recompute) call.output = tile_tokens(m.layer(0).input);
  call.inverse = m.embedding_inverse + first_token();
  call.weight = turn_.weights + layout_.embedding_norm.weight;
  call.bias = turn_.weights + layout_.embedding_norm.bias;
  call.eps = a_.norm_eps;
  turn_.train_kernels->norm_forward(call);
}

void TileOps::gather() {
  const TurnMemory& m = turn_.memory;
  for (int s = tile_.first; s < tile_.last; ++s) std::memcpy(m.scoring.row(s), m.hidden.row(turn_.batch->cu_seqlens[s]), a_.hidden * sizeof(float));
  turn_.train_kernels->convert(tile_.last - tile_.first, a_.hidden, rows_from(m.scoring, tile_.first), rows_from(m.scoring_input, tile_.first));
}

void TileOps::linear(int layer, Projection which) {
  const TurnMemory& m = turn_.memory;
  const LayerMemory& l = m.layer(layer);
  const cpu::Panels& weight = turn_.packed->forward(layer, which);
  const int rows = row_count(layer);
  switch (which) {
    case Projection::query:
      return multiply(rows, is_last(layer) ? tile_rows(m.scoring_input, layer) : tile_tokens(m.input(layer)), weight, tile_rows(l.query, layer));
    case Projection::key_value:
      return multiply(token_count(), tile_tokens(m.input(layer)), weight, tile_tokens(l.key_value));
    case Projection::output:
      return multiply(rows, tile_rows(l.context, layer), weight, workspace_.branch);
    case Projection::up:
      return multiply(rows, tile_rows(l.attended, layer), weight, tile_rows(l.mlp, layer));
    case Projection::down:
      return multiply(rows, workspace_.activated, weight, workspace_.branch);
  }
}

void TileOps::attention(int layer) {
  const LayerMemory& l = turn_.memory.layer(layer);
  cpu::Attention call;
  call.heads = a_.heads;
  call.head_dim = a_.head_dim;
  call.scratch = workspace_.attention;
  each_sequence(layer, [&](int first_key, int keys, int first_query, int queries) {
    call.queries = queries;
    call.keys = keys;
    call.query = rows_from(l.query, first_query);
    call.key = rows_from(l.key_value, first_key);
    call.value = columns_from(call.key, a_.hidden);
    call.context = rows_from(l.context, first_query);
    turn_.kernels->attention(call);
  });
}

void TileOps::residual(int layer, Site site) {
  const TurnMemory& m = turn_.memory;
  const LayerMemory& l = m.layer(layer);
  const NormAt& norm = layout_.norm(layer, site);
  NormForward call;
  call.rows = row_count(layer);
  call.n = a_.hidden;
  call.hidden = hidden(layer);
  call.branch = workspace_.branch;
  call.hat = tile_rows(l.hat[static_cast<int>(site)], layer);
  call.inverse = l.inverse[static_cast<int>(site)] + first_row(layer);
  if (site == Site::attention) call.output = tile_rows(l.attended, layer);
  else if (!is_last(layer) && !m.size().recompute) call.output = tile_tokens(m.layer(layer + 1).input);
  call.weight = turn_.weights + norm.weight;
  call.bias = turn_.weights + norm.bias;
  call.eps = a_.norm_eps;
  turn_.train_kernels->norm_forward(call);
}

void TileOps::activate(int layer) {
  turn_.train_kernels->activate({row_count(layer), a_.intermediate, tile_rows(turn_.memory.layer(layer).mlp, layer), workspace_.activated, epilogue_of(a_.activation)});
}

void TileOps::head(int exit) {
  for (int s = tile_.first; s < tile_.last; ++s) {
    const float* x = exit_hidden(exit, s, false);
    std::copy_n(x, a_.hidden, turn_.memory.exit_row(exit, s));
    if (a_.head == HeadKind::query) continue;  // waits for the query's row
    turn_.logits[s * layout_.heads.size() + exit] = linear_logit(layout_, turn_.weights, exit, x);
  }
}

void TileOps::begin_backward() {
  const TurnMemory& m = turn_.memory;
  for (int t = 0; t < token_count(); ++t) std::fill_n(floats(m.hidden_gradient, first_token() + t), a_.hidden, 0.f);
  for (int s = tile_.first; s < tile_.last; ++s) std::fill_n(floats(m.scoring_gradient, s), a_.hidden, 0.f);
}

void TileOps::head_backward(int exit) {
  for (int s = tile_.first; s < tile_.last; ++s)
    add_row_gradient(layout_, turn_.weights, *turn_.batch, turn_.query_heads, exit, s, turn_.logit_gradients[s * layout_.heads.size() + exit], exit_hidden(exit, s, true));
}

void TileOps::activate_backward(int layer) {
  turn_.train_kernels->activate_backward({row_count(layer), a_.intermediate, tile_rows(turn_.memory.layer(layer).mlp, layer), workspace_.mlp_gradient, epilogue_of(a_.activation)});
}

void TileOps::residual_backward(int layer, Site site) {
  const LayerMemory& l = turn_.memory.layer(layer);
  NormBackward call;
  call.rows = row_count(layer);
  call.n = a_.hidden;
  call.gradient = hidden_gradient(layer);
  call.branch = workspace_.branch_gradient;
  call.hat = tile_rows(l.hat[static_cast<int>(site)], layer);
  call.inverse = l.inverse[static_cast<int>(site)] + first_row(layer);
  call.weight = turn_.weights + layout_.norm(layer, site).weight;
  call.weight_gradient = turn_.memory.norm_partial(layer, site, index_);
  call.bias_gradient = call.weight_gradient + a_.hidden;
  turn_.train_kernels->norm_backward(call);
}

void TileOps::attention_backward(int layer) {
  const LayerMemory& l = turn_.memory.layer(layer);
  AttentionBackward call;
  call.heads = a_.heads;
  call.head_dim = a_.head_dim;
  call.scratch = workspace_.attention;
  each_sequence(layer, [&](int first_key, int keys, int first_query, int queries) {
    call.queries = queries;
    call.keys = keys;
    call.query = rows_from(l.query, first_query);
    call.key = rows_from(l.key_value, first_key);
    call.value = columns_from(call.key, a_.hidden);
    call.context_gradient = rows_from(workspace_.context_gradient, first_query - first_row(layer));
    call.query_gradient = rows_from(workspace_.query_gradient, first_query - first_row(layer));
    call.key_gradient = rows_from(workspace_.key_value_gradient, first_key - first_token());
    call.value_gradient = columns_from(call.key_gradient, a_.hidden);
    turn_.train_kernels->attention_backward(call);
  });
}

void TileOps::scatter() {
  const TurnMemory& m = turn_.memory;
  for (int s = tile_.first; s < tile_.last; ++s) {
    const float* from = floats(m.scoring_gradient, s);
    float* to = floats(m.hidden_gradient, turn_.batch->cu_seqlens[s]);
    for (int i = 0; i < a_.hidden; ++i) to[i] += from[i];
  }
}

void TileOps::linear_backward(int layer, Projection which) {
  const TurnMemory& m = turn_.memory;
  const bool tokens = which == Projection::key_value;
  const int rows = tokens ? token_count() : row_count(layer);
  const Rows2d& dy = which == Projection::query       ? workspace_.query_gradient
                     : which == Projection::key_value ? workspace_.key_value_gradient
                     : which == Projection::up        ? workspace_.mlp_gradient
                                                      : workspace_.branch_gradient;
  turn_.train_kernels->transpose({rows, layout_.linear(layer, which).out, dy, m.output_gradients(layer).of[static_cast<int>(which)], tokens ? first_token() : first_row(layer)});
  const cpu::Panels& weight = turn_.packed->backward(layer, which);
  if (which == Projection::output) return multiply(rows, dy, weight, workspace_.context_gradient);
  if (which == Projection::down) return multiply(rows, dy, weight, workspace_.mlp_gradient);
  multiply(rows, dy, weight, workspace_.branch);
  turn_.train_kernels->accumulate(rows, a_.hidden, workspace_.branch, tokens ? tile_tokens(m.hidden_gradient) : hidden_gradient(layer));
}

void TileOps::embed_backward() {
  const TurnMemory& m = turn_.memory;
  NormBackward call;
  call.rows = token_count();
  call.n = a_.hidden;
  call.gradient = tile_tokens(m.hidden_gradient);
  call.hat = tile_tokens(m.embedding_hat);
  call.inverse = m.embedding_inverse + first_token();
  call.weight = turn_.weights + layout_.embedding_norm.weight;
  call.weight_gradient = m.embedding_partial(index_);
  call.bias_gradient = call.weight_gradient + a_.hidden;
  std::fill_n(call.weight_gradient, 2 * a_.hidden, 0.f);
  turn_.train_kernels->norm_backward(call);
}

}  // namespace matryoshka::train
