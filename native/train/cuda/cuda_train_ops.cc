#include "train/cuda/cuda_train_ops.h"

#include <cmath>

#include "cuda/kernels/training/activation.cuh"
#include "cuda/kernels/training/attention_backward.cuh"
#include "cuda/kernels/training/product.cuh"
#include "cuda/kernels/training/rows.cuh"

namespace matryoshka::train {
CudaTrainOps::CudaTrainOps(const DeviceTurn& turn, cuda::Stream& stream, cuda::LaunchSequence& launches)
    : turn_(turn), layout_(*turn.layout), a_(layout_.architecture), m_(*turn.memory), kernels_(turn.kernels->training), stream_(stream), launches_(launches) {}

const Element16* CudaTrainOps::input(int layer) const {
  while (layer > 0 && turn_.skipped[layer - 1]) --layer;
  return m_.layers[layer].input;
}

const Element16* CudaTrainOps::input_of(int layer, Projection which) const {
  const DeviceLayer& l = m_.layers[layer];
  switch (which) {
    case Projection::query:
      return is_last(layer) ? m_.scoring_input : input(layer);
    case Projection::key_value:
      return input(layer);
    case Projection::output:
      return l.context;
    case Projection::up:
      return l.attended;
    case Projection::down:
      break;
  }
  return l.activated;
}

Element16* CudaTrainOps::output_gradient(Projection which) const {
  switch (which) {
    case Projection::query:
      return m_.query_gradient;
    case Projection::key_value:
      return m_.key_value_gradient;
    case Projection::up:
      return m_.mlp_gradient;
    case Projection::output:
    case Projection::down:
      break;
  }
  return m_.branch_gradient;
}

void CudaTrainOps::embed() {
  launch(kernels_.embedding_sum, cuda::EmbeddingSumArgs{turn_.weights + layout_.word, turn_.weights + layout_.position, turn_.weights + layout_.type, turn_.input->tokens,
                                                        turn_.input->positions, turn_.input->types, m_.hidden, turn_.tokens, a_.hidden});
  norm_forward(m_.hidden, nullptr, m_.embedding_hat, m_.embedding_inverse, m_.layers[0].input, layout_.embedding_norm, turn_.tokens);
}

void CudaTrainOps::gather() {
  launch(kernels_.gather_rows, cuda::MoveRowsArgs{m_.hidden, turn_.input->cu_seqlens, m_.scoring, m_.scoring_input, turn_.sequences, a_.hidden});
}

void CudaTrainOps::linear(int layer, Projection which) {
  const LinearAt& at = layout_.linear(layer, which);
  const DeviceLayer& l = m_.layers[layer];
  cuda::ProductArgs args{};
  args.a = input_of(layer, which);
  args.b = turn_.elements + at.weight;
  args.m = which == Projection::key_value ? turn_.tokens : rows(layer);
  args.n = at.out;
  args.k = args.split = at.in;
  args.bias = turn_.weights + at.bias;
  args.elements = which == Projection::query ? l.query : which == Projection::key_value ? l.key_value : which == Projection::up ? l.mlp : nullptr;
  args.sums = m_.branch;
  launch(kernels_.forward, args);
}

template <class Args>
Args CudaTrainOps::attention_args(int layer) const {
  const DeviceLayer& l = m_.layers[layer];
  Args args{};
  args.query = l.query;
  args.key_value = l.key_value;
  args.context = l.context;
  args.active = turn_.input->active();
  args.scoring = is_last(layer);
  args.heads = args.key_heads = a_.heads;
  args.scale = 1 / std::sqrt(static_cast<float>(a_.head_dim));
  return args;
}

void CudaTrainOps::attention(int layer) { launch(turn_.kernels->bf16.attention[turn_.head_dim_index], attention_args<cuda::AttentionArgs>(layer)); }

void CudaTrainOps::residual(int layer, Site site) {
  const DeviceLayer& l = m_.layers[layer];
  const int s = static_cast<int>(site);
  Element16* const output = site == Site::attention ? l.attended : is_last(layer) ? nullptr : m_.layers[layer + 1].input;
  norm_forward(hidden(layer), m_.branch, l.hat[s], l.inverse[s], output, layout_.norm(layer, site), rows(layer));
}

void CudaTrainOps::norm_forward(float* hidden, const float* branch, Element16* hat, float* inverse, Element16* output, const NormAt& norm, int rows) {
  launch(kernels_.norm_forward[turn_.row_width_index],
         cuda::NormForwardArgs{hidden, branch, hat, inverse, output, turn_.weights + norm.weight, turn_.weights + norm.bias, rows, a_.hidden, a_.norm_eps});
}

void CudaTrainOps::activate(int layer) {
  const DeviceLayer& l = m_.layers[layer];
  launch(kernels_.activate[static_cast<int>(a_.activation)], cuda::ActivateArgs{l.mlp, l.activated, rows(layer) * (a_.intermediate / 8)});
}

void CudaTrainOps::head(int exit) {
  const bool last = is_last(layout_.exit_layers[exit] - 1);
  float* const to = m_.exit_rows + static_cast<size_t>(exit) * turn_.sequences * a_.hidden;
  launch(kernels_.gather_rows, cuda::MoveRowsArgs{last ? m_.scoring : m_.hidden, last ? nullptr : turn_.input->cu_seqlens, to, nullptr, turn_.sequences, a_.hidden});
}

void CudaTrainOps::begin_backward() {
  const size_t row = a_.hidden * sizeof(float);
  stream_.fill(m_.hidden_gradient, 0, turn_.tokens * row);
  stream_.fill(m_.scoring_gradient, 0, turn_.sequences * row);
}

void CudaTrainOps::head_backward(int exit) {
  const int layer = layout_.exit_layers[exit] - 1;
  const float* const from = m_.exit_gradients + static_cast<size_t>(exit) * turn_.sequences * a_.hidden;
  launch(kernels_.add_rows, cuda::MoveRowsArgs{from, is_last(layer) ? nullptr : turn_.input->cu_seqlens, hidden_gradient(layer), nullptr, turn_.sequences, a_.hidden});
}

void CudaTrainOps::scatter() {
  launch(kernels_.add_rows, cuda::MoveRowsArgs{m_.scoring_gradient, turn_.input->cu_seqlens, m_.hidden_gradient, nullptr, turn_.sequences, a_.hidden});
}

void CudaTrainOps::activate_backward(int layer) {
  launch(kernels_.activate_backward[static_cast<int>(a_.activation)], cuda::ActivateArgs{m_.layers[layer].mlp, m_.mlp_gradient, rows(layer) * (a_.intermediate / 8)});
}

void CudaTrainOps::residual_backward(int layer, Site site) {
  const DeviceLayer& l = m_.layers[layer];
  const int s = static_cast<int>(site);
  norm_backward(hidden_gradient(layer), m_.branch_gradient, l.hat[s], l.inverse[s], layout_.norm(layer, site), rows(layer));
}

void CudaTrainOps::norm_backward(float* gradient, Element16* branch, const Element16* hat, const float* inverse, const NormAt& norm, int rows) {
  sum_columns(kernels_.sum_floats, gradient, hat, rows, a_.hidden, norm.weight);
  sum_columns(kernels_.sum_floats, gradient, nullptr, rows, a_.hidden, norm.bias);
  launch(kernels_.norm_backward[turn_.row_width_index], cuda::NormBackwardArgs{gradient, branch, hat, inverse, turn_.weights + norm.weight, rows, a_.hidden});
}

void CudaTrainOps::attention_backward(int layer) {
  auto args = attention_args<cuda::AttentionBackwardArgs>(layer);
  args.context_gradient = m_.context_gradient;
  args.query_gradient = m_.query_gradient;
  args.key_value_gradient = m_.key_value_gradient;
  args.sums = m_.attention_sums;
  args.deltas = m_.attention_deltas;
  launch(kernels_.query_gradient[turn_.head_dim_index], args);
  launch(kernels_.key_gradient[turn_.head_dim_index], args);
}

void CudaTrainOps::linear_backward(int layer, Projection which) {
  const LinearAt& at = layout_.linear(layer, which);
  const int count = which == Projection::key_value ? turn_.tokens : rows(layer);
  const Element16* const dy = output_gradient(which);

  cuda::ProductArgs weight{};
  weight.a = dy;
  weight.b = input_of(layer, which);
  weight.m = at.out;
  weight.n = at.in;
  weight.k = count;
  weight.split = TurnActivations::kSplit;
  weight.sums = m_.partial;
  launch(kernels_.weight_gradient, weight);
  cuda::SumRowsArgs whole{};
  whole.in = m_.partial;
  whole.segment = whole.count = (count + weight.split - 1) / weight.split;
  whole.outputs = 1;
  whole.width = at.out * at.in;
  whole.out = turn_.gradients + at.weight;
  launch(kernels_.sum_floats, whole);
  sum_columns(kernels_.sum_elements, dy, nullptr, count, at.out, at.bias);

  cuda::ProductArgs input{};
  input.a = dy;
  input.b = turn_.elements + at.weight;
  input.m = count;
  input.n = at.in;
  input.k = input.split = at.out;
  if (which == Projection::output) input.elements = m_.context_gradient;
  else if (which == Projection::down) input.elements = m_.mlp_gradient;
  input.sums = which == Projection::key_value ? m_.hidden_gradient : hidden_gradient(layer);
  input.accumulate = true;
  launch(kernels_.input_gradient, input);
}

/// In rounds, each over what the last has left: one long sum would wait for memory row after row.
void CudaTrainOps::sum_columns(const cuda::Kernel& kernel, const void* in, const Element16* times, int rows, int width, size_t at) {
  cuda::SumRowsArgs args{};
  args.in = in;
  args.times = times;
  args.segment = TurnActivations::kSegment;
  args.width = width;
  const cuda::Kernel* next = &kernel;
  for (float* to = m_.partial; rows > 0; to += static_cast<size_t>(args.outputs) * width) {
    args.count = rows;
    args.outputs = TurnActivations::segments(rows);
    args.out = args.outputs == 1 ? turn_.gradients + at : to;
    launch(*next, args);
    next = &kernels_.sum_floats;
    args.in = args.out;
    args.times = nullptr;
    rows = args.outputs == 1 ? 0 : args.outputs;
  }
}

void CudaTrainOps::table_gradient(const DeviceTableRows& rows, size_t table) {
  cuda::SumRowsArgs parts{};
  parts.in = m_.hidden_gradient;
  parts.index = rows.order;
  parts.starts = rows.segments;
  parts.outputs = rows.segment_count;
  parts.out = m_.partial;
  parts.width = a_.hidden;
  launch(kernels_.sum_floats, parts);
  cuda::SumRowsArgs whole{};
  whole.in = m_.partial;
  whole.starts = rows.starts;
  whole.outputs = rows.row_count;
  whole.place = rows.rows;
  whole.out = turn_.gradients + table;
  whole.width = a_.hidden;
  launch(kernels_.sum_floats, whole);
}

void CudaTrainOps::embed_backward() {
  norm_backward(m_.hidden_gradient, nullptr, m_.embedding_hat, m_.embedding_inverse, layout_.embedding_norm, turn_.tokens);
  table_gradient(turn_.input->word, layout_.word);
  table_gradient(turn_.input->position, layout_.position);
  table_gradient(turn_.input->type, layout_.type);
}

}  // namespace matryoshka::train
