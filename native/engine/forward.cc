// A layer where somebody may stop, and the last one, are peeked at first: keys and values of every token, but query,
// output, MLP and head of the scoring row only, because the score needs no more. Survivors then finish the layer over
// the same keys and values. Rows do not depend on each other's presence, so a survivor's score is the one it would
// have had without any exit.
#include "engine/forward.h"

#include <algorithm>

#include "engine/queries.h"

namespace matryoshka {
namespace {

void project_keys(Ops& ops, int layer) { ops.linear(layer, Projection::key_value, Slot::hidden, Slot::key_value); }

void attend_and_mix(Ops& ops, int layer) {
  ops.linear(layer, Projection::query, Slot::hidden, Slot::query);
  ops.attention();
  ops.linear(layer, Projection::output, Slot::context, Slot::branch);
  ops.residual(layer, Site::attention);
  ops.linear(layer, Projection::up, Slot::hidden, Slot::mlp);
  ops.linear(layer, Projection::down, Slot::mlp, Slot::branch);
  ops.residual(layer, Site::mlp);
}

class Pass {
 public:
  Pass(Backend& backend, const Checkpoint& checkpoint, const ExitPlan& plan, const std::atomic<bool>& cancelled)
      : backend_(backend), exits_(checkpoint.exit_layers()), plan_(plan), cancelled_(cancelled), scored_(plan.report) {
    for (size_t exit = exits_.size(); exit-- > 1;) {
      if (checkpoint.head(static_cast<int>(exit)).carry > 0 && (scored_[exit] || decides(exit))) scored_[exit - 1] = 1;
    }
  }

  /// Returns the depth that the still active sequences have reached.
  int run() {
    backend_.run(Rows::tokens, 1, [](Ops& ops, int) { ops.embed(); });
    for (size_t exit = 0;; ++exit) {
      const bool last = exits_[exit] == plan_.depth;
      if (!last && !decides(exit)) continue;
      const int layer = exits_[exit] - 1;
      if (const int reached = advance(layer)) return reached;
      peek(layer, static_cast<int>(exit));
      if (last || cancelled() || expired()) return layer + 1;
      backend_.decide(plan_.rule, static_cast<int>(exit));
    }
  }

 private:
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  bool expired() const { return plan_.deadline && std::chrono::steady_clock::now() >= *plan_.deadline; }
  bool decides(size_t exit) const { return plan_.rule.head_at(static_cast<int>(exit)) >= 0; }

  /// Index of the exit after block `layer` if it is one of `which` [exits], or -1.
  int exit_of(const std::vector<uint8_t>& which, int layer) const {
    const auto found = std::lower_bound(exits_.begin(), exits_.end(), layer + 1);
    const int exit = static_cast<int>(found - exits_.begin());
    return found != exits_.end() && *found == layer + 1 && which[exit] ? exit : -1;
  }

  /// What is left of a block; and where the next one is to be peeked at, its keys, while the rows are still in cache.
  void block(Ops& ops, int layer, int next_peek) const {
    if (cancelled()) return;
    if (layer != open_) project_keys(ops, layer);
    attend_and_mix(ops, layer);
    if (const int exit = exit_of(scored_, layer); exit >= 0 && layer != open_) ops.head(exit);
    if (layer + 1 == next_peek) project_keys(ops, next_peek);
  }

  /// All blocks before `layer`, and its keys. Returns the depth reached where the deadline or a cancellation ended the
  /// pass, else 0.
  int advance(int layer) {
    const int first = std::max(open_, 0);
    if (first == layer) backend_.run(Rows::tokens, 1, [&](Ops& ops, int) { project_keys(ops, layer); });
    if (!plan_.deadline) {
      backend_.run(Rows::tokens, layer - first, [&](Ops& ops, int step) { block(ops, first + step, layer); });
      if (cancelled()) return layer;
    }
    for (int l = first; plan_.deadline && l < layer; ++l) {
      if (const int exit = exit_of(plan_.report, l); exit >= 0 && expired()) {
        if (l != open_) {
          backend_.run(Rows::tokens, 1, [&](Ops& ops, int) { project_keys(ops, l); });
          peek(l, exit);
        }
        return l + 1;
      }
      backend_.run(Rows::tokens, 1, [&](Ops& ops, int) { block(ops, l, layer); });
      if (cancelled()) return l + 1;
    }
    open_ = layer;
    return 0;
  }

  void peek(int layer, int exit) {
    backend_.run(Rows::scoring, 1, [&](Ops& ops, int) {
      ops.gather();
      attend_and_mix(ops, layer);
      ops.head(exit);
    });
  }

  Backend& backend_;
  const std::vector<int>& exits_;
  const ExitPlan& plan_;
  const std::atomic<bool>& cancelled_;
  std::vector<uint8_t> scored_;  ///< [exits]: reported, or carried by one that is scored
  int open_ = -1;  ///< the block peeked at last: its keys and values are there, and the score; the rest of it is not
};

}  // namespace

int begin_forward(Backend& backend, const Checkpoint& checkpoint, const TokenBatch& batch, const ExitPlan& plan,
                  const std::atomic<bool>& cancelled) {
  backend.begin(batch, static_cast<int>(checkpoint.exit_layers().size()), plan.states);
  const int depth = Pass(backend, checkpoint, plan, cancelled).run();
  if (cancelled.load(std::memory_order_relaxed)) return 0;
  backend.submit();
  return depth;
}

void finish_forward(Backend& backend, int queries, const ExitPlan& plan, int depth, Scores& scores) {
  backend.finish(scores);
  scores.drop_first(queries);
  // A rule may have stopped everybody by then.
  const bool running = std::find(scores.exit_layers.begin(), scores.exit_layers.end(), uint8_t{0}) != scores.exit_layers.end();
  scores.partial = running && depth < plan.depth;
  std::replace(scores.exit_layers.begin(), scores.exit_layers.end(), uint8_t{0}, static_cast<uint8_t>(depth));
}

bool forward(Backend& backend, const Checkpoint& checkpoint, const TokenBatch& batch, const ExitPlan& plan,
             const std::atomic<bool>& cancelled, Scores& scores) {
  TokenBatch own = batch;
  ExitPlan own_plan = plan;
  add_queries(checkpoint.architecture().head, own, own_plan.rule);
  const int depth = begin_forward(backend, checkpoint, own, own_plan, cancelled);
  if (depth == 0) return false;
  finish_forward(backend, own.queries, own_plan, depth, scores);
  return true;
}

}  // namespace matryoshka
