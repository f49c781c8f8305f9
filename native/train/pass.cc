#include "train/pass.h"

namespace matryoshka::train {
namespace {

bool is_last(const Layout& layout, int layer) { return layer + 1 == layout.architecture.layers; }

void forward_block(TrainOps& ops, int layer, bool last) {
  ops.linear(layer, Projection::key_value);
  if (last) ops.gather();
  ops.linear(layer, Projection::query);
  ops.attention(layer);
  ops.linear(layer, Projection::output);
  ops.residual(layer, Site::attention);
  ops.linear(layer, Projection::up);
  ops.activate(layer);
  ops.linear(layer, Projection::down);
  ops.residual(layer, Site::mlp);
}

void backward_block(TrainOps& ops, int layer, bool last) {
  ops.residual_backward(layer, Site::mlp);
  ops.linear_backward(layer, Projection::down);
  ops.activate_backward(layer);
  ops.linear_backward(layer, Projection::up);
  ops.residual_backward(layer, Site::attention);
  ops.linear_backward(layer, Projection::output);
  ops.attention_backward(layer);
  ops.linear_backward(layer, Projection::query);
  if (last) ops.scatter();
  ops.linear_backward(layer, Projection::key_value);
}

}  // namespace

void repeat_layer(TrainOps& ops, const Layout& layout, const std::vector<uint8_t>& skipped, int layer) {
  const bool last = is_last(layout, layer);
  if (!skipped[layer]) forward_block(ops, layer, last);
  else if (last) ops.gather();
}

void forward_layer(TrainOps& ops, const Layout& layout, const std::vector<uint8_t>& skipped, int layer) {
  repeat_layer(ops, layout, skipped, layer);
  if (const int exit = layout.exit_after(layer); exit >= 0) ops.head(exit);
}

void backward_layer(TrainOps& ops, const Layout& layout, const std::vector<uint8_t>& skipped, int layer) {
  const bool last = is_last(layout, layer);
  if (last) ops.begin_backward();
  if (const int exit = layout.exit_after(layer); exit >= 0) ops.head_backward(exit);
  if (!skipped[layer]) backward_block(ops, layer, last);
  else if (last) ops.scatter();
}

}  // namespace matryoshka::train
