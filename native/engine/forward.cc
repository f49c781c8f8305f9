// Peek first: at the last layer only the scoring row's query, output, MLP and head are computed, because nothing
// else is read. Keys and values are needed of every token.
#include "engine/forward.h"

#include <algorithm>

namespace matryoshka {
namespace {

void attend_and_mix(Ops& ops, int layer) {
  ops.linear(layer, Projection::query, Slot::hidden, Slot::query);
  ops.attention();
  ops.linear(layer, Projection::output, Slot::context, Slot::branch);
  ops.residual(layer, Site::attention);
  ops.linear(layer, Projection::up, Slot::hidden, Slot::mlp);
  ops.linear(layer, Projection::down, Slot::mlp, Slot::branch);
  ops.residual(layer, Site::mlp);
}

}  // namespace

bool forward(Backend& backend, const Checkpoint& checkpoint, const TokenBatch& batch, const ExitPlan& plan,
             const std::atomic<bool>& cancelled, Scores& scores) {
  const std::vector<int>& exits = checkpoint.exit_layers();
  const auto exit_at = [&](int layer) {  // index of the exit after block `layer`, or -1
    const auto found = std::lower_bound(exits.begin(), exits.end(), layer + 1);
    return found != exits.end() && *found == layer + 1 ? static_cast<int>(found - exits.begin()) : -1;
  };
  const int last = plan.depth - 1;

  backend.begin(batch, static_cast<int>(exits.size()));
  backend.run(Rows::tokens, 1, [](Ops& ops, int) { ops.embed(); });
  backend.run(Rows::tokens, last, [&](Ops& ops, int layer) {
    if (cancelled.load(std::memory_order_relaxed)) return;
    ops.linear(layer, Projection::key_value, Slot::hidden, Slot::key_value);
    attend_and_mix(ops, layer);
    const int exit = exit_at(layer);
    if (exit >= 0 && plan.report[exit]) ops.head(exit);
  });
  if (cancelled.load(std::memory_order_relaxed)) return false;
  backend.run(Rows::tokens, 1, [&](Ops& ops, int) { ops.linear(last, Projection::key_value, Slot::hidden, Slot::key_value); });
  backend.run(Rows::scoring, 1, [&](Ops& ops, int) {
    ops.gather();
    attend_and_mix(ops, last);
    ops.head(exit_at(last));
  });
  backend.finish(scores);
  std::fill(scores.exit_layers.begin(), scores.exit_layers.end(), static_cast<uint8_t>(plan.depth));
  return true;
}

}  // namespace matryoshka
