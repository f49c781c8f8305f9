#include "train/cpu/weight_gradients.h"

#include <algorithm>

#include "cpu/batch_state.h"
#include "train/heads.h"

namespace matryoshka::train {
namespace {

constexpr int kSlice = 64;  // columns of an embedding table that one task adds to

Rows2d float_rows(float* data, int stride) {
  Rows2d m;
  m.data = reinterpret_cast<std::byte*>(data);
  m.stride = stride * sizeof(float);
  return m;
}

void add(const float* from, int count, float* to) {
  for (int i = 0; i < count; ++i) to[i] += from[i];
}

int slices(const Layout& layout) { return (layout.architecture.hidden + kSlice - 1) / kSlice; }

void table_slice(const Turn& turn, int first, float* gradients) {
  const Layout& layout = *turn.layout;
  const TokenBatch& batch = *turn.batch;
  const int hidden = layout.architecture.hidden, count = std::min(kSlice, hidden - first);
  for (int s = 0; s < batch.sequences(); ++s)
    for (int t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t) {
      const float* d = reinterpret_cast<const float*>(turn.memory.hidden_gradient.row(t)) + first;
      const auto to = [&](size_t table, int row) { add(d, count, gradients + table + static_cast<size_t>(row) * hidden + first); };
      to(layout.word, batch.token_ids[t]);
      to(layout.position, t - batch.cu_seqlens[s] + layout.architecture.position_offset);
      to(layout.type, batch.type_ids.empty() ? 0 : batch.type_ids[t]);
    }
}

}  // namespace

GradientWorkspace::GradientWorkspace(const cpu::Kernels& kernels, Element element) {
  arena_.array(panel_floats_, static_cast<size_t>(element == Element::bf16 ? kTurnRows / 2 : kTurnRows) * kernels.width);
  arena_.matrix(product, kProductRows, kernels.width, Element::f32);
  arena_.array(no_bias, kernels.width);
  arena_.place();
  panel = reinterpret_cast<std::byte*>(panel_floats_);
  std::fill_n(no_bias, kernels.width, 0.f);
}

LayerGradients::LayerGradients(const Turn& turn, int layer) : turn_(turn), layer_(layer) {
  for (int p = 0; p < kProjections; ++p)
    for (int first = 0; first < turn.layout->blocks[layer].linear[p].in; first += turn.kernels->width) panels_.push_back({static_cast<Projection>(p), first});
}

int LayerGradients::rows_of(Projection which) const {
  const bool scoring = layer_ + 1 == turn_.layout->architecture.layers && which != Projection::key_value;
  return scoring ? turn_.batch->sequences() : turn_.batch->tokens();
}

Rows2d LayerGradients::input_of(Projection which) const {
  const TurnMemory& m = turn_.memory;
  const LayerMemory& l = m.layer(layer_);
  switch (which) {
    case Projection::query:
      return layer_ + 1 == turn_.layout->architecture.layers ? m.scoring_input : m.input(layer_);
    case Projection::key_value:
      return m.input(layer_);
    case Projection::output:
      return l.context;
    case Projection::up:
      return l.attended;
    case Projection::down:
      break;
  }
  return l.mlp;
}

void LayerGradients::run(int task, GradientWorkspace& workspace, float* gradients) const {
  const int panels = static_cast<int>(panels_.size());
  if (task < panels) return panel(panels_[task], workspace, gradients);
  if (task == panels + kProjections) return norms(gradients);
  const auto which = static_cast<Projection>(task - panels);
  const LinearAt& at = turn_.layout->linear(layer_, which);
  turn_.train_kernels->row_sums(at.out, rows_of(which), turn_.memory.output_gradients(layer_).of[task - panels], gradients + at.bias);
}

/// Some columns of dW = dyᵀ x, over turns of rows.
void LayerGradients::panel(const Panel& p, GradientWorkspace& workspace, float* gradients) const {
  const LinearAt& at = turn_.layout->linear(layer_, p.which);
  const Rows2d input = input_of(p.which), &dy = turn_.memory.output_gradients(layer_).of[static_cast<int>(p.which)];
  const size_t element = cpu::size_of(dy.element);
  const int columns = std::min(turn_.kernels->width, at.in - p.first), rows = rows_of(p.which);
  for (int row = 0; row < rows; row += GradientWorkspace::kTurnRows) {
    Interleave interleave;
    interleave.source = cpu::rows_from(input, row);
    interleave.source.data += p.first * element;
    interleave.rows = std::min(GradientWorkspace::kTurnRows, rows - row);
    interleave.columns = columns;
    interleave.pairs = dy.element == Element::bf16;
    interleave.panel = workspace.panel;
    turn_.train_kernels->interleave(interleave);

    cpu::Panels x;
    x.format = interleave.pairs ? cpu::Format::bf16_dot : cpu::Format::f32;
    x.n = columns;
    x.k = interleave.rows;
    x.data = workspace.panel;
    x.panel_bytes = cpu::panel_size(x.format, x.k, turn_.kernels->width);
    x.bias = workspace.no_bias;
    cpu::Gemm call;
    call.weight = &x;
    call.output = workspace.product;
    for (int out = 0; out < at.out; out += GradientWorkspace::kProductRows) {
      call.rows = std::min(GradientWorkspace::kProductRows, at.out - out);
      call.input = cpu::rows_from(dy, out);
      call.input.data += row * element;
      turn_.kernels->gemm(call);
      turn_.train_kernels->accumulate(call.rows, columns, workspace.product, float_rows(gradients + at.weight + static_cast<size_t>(out) * at.in + p.first, at.in));
    }
  }
}

void LayerGradients::norms(float* gradients) const {
  const int hidden = turn_.layout->architecture.hidden;
  for (const Site site : {Site::attention, Site::mlp}) {
    const NormAt& norm = turn_.layout->norm(layer_, site);
    for (int tile = 0; tile < turn_.memory.size().tiles; ++tile) {
      const float* partial = turn_.memory.norm_partial(layer_, site, tile);
      add(partial, hidden, gradients + norm.weight);
      add(partial + hidden, hidden, gradients + norm.bias);
    }
  }
}

int embedding_tasks(const Layout& layout) { return slices(layout) + 1 + static_cast<int>(layout.heads.size()); }

void embedding_gradients(const Turn& turn, int task, float* gradients) {
  const Layout& layout = *turn.layout;
  const int hidden = layout.architecture.hidden, tables = slices(layout);
  if (task < tables) return table_slice(turn, task * kSlice, gradients);
  if (task > tables) return head_gradients(turn, task - tables - 1, gradients);
  for (int tile = 0; tile < turn.memory.size().tiles; ++tile) {
    add(turn.memory.embedding_partial(tile), hidden, gradients + layout.embedding_norm.weight);
    add(turn.memory.embedding_partial(tile) + hidden, hidden, gradients + layout.embedding_norm.bias);
  }
}

void head_gradients(const Turn& turn, int exit, float* gradients) {
  add_head_gradients(*turn.layout, *turn.batch, turn.query_heads, turn.memory.exit_rows(), turn.logit_gradients, exit, gradients);
}

}  // namespace matryoshka::train
