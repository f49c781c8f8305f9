#include "train/cpu/cpu_train_backend.h"

#include <algorithm>

#include "cpu/cpu_features.h"
#include "train/cpu/kernel_tables.h"
#include "train/cpu/packed_weights.h"
#include "train/cpu/task_graph.h"
#include "train/cpu/tile_ops.h"
#include "train/cpu/weight_gradients.h"

namespace matryoshka::train {
namespace {

constexpr int kTileTokens = 160;

/// Runs of whole sequences of at most kTileTokens, whatever the number of threads: partial sums of norms are by tile.
std::vector<cpu::Tile> cut(const TokenBatch& batch) {
  std::vector<cpu::Tile> tiles;
  for (int s = 0; s < batch.sequences();) {
    cpu::Tile tile{s, s + 1};
    while (tile.last < batch.sequences() && batch.cu_seqlens[tile.last + 1] - batch.cu_seqlens[s] <= kTileTokens) ++tile.last;
    tiles.push_back(tile);
    s = tile.last;
  }
  return tiles;
}

}  // namespace

struct CpuTrainBackend::State {
  State(const Layout& layout, const CpuTrainOptions& options)
      : layout(layout),
        options(options),
        variant(cpu::choose_variant(options.isa)),
        kernels(train_kernels(variant)),
        element(options.bf16 && variant.kernels->bf16_dot ? Element::bf16 : Element::f32),
        pool(options.threads),
        packed(layout, *variant.kernels, kernels, element, options.threads),
        workspaces(options.threads) {
    for (int i = 0; i < options.threads; ++i) gradient_workspaces.push_back(std::make_unique<GradientWorkspace>(*variant.kernels, element));
    turn.layout = &layout;
    turn.kernels = variant.kernels;
    turn.train_kernels = &kernels;
    turn.packed = &packed;
  }

  void prepare(const TokenBatch& batch, const std::vector<uint8_t>& skipped) {
    turn.batch = &batch;
    turn.skipped = skipped;
    turn.tiles = cut(batch);
    turn.memory.prepare(layout, skipped, {batch.tokens(), batch.sequences(), static_cast<int>(turn.tiles.size()), options.recompute, element});
    turn.logits.assign(static_cast<size_t>(batch.sequences()) * layout.heads.size(), 0);
    int longest = kTileTokens;
    for (int s = 0; s < batch.sequences(); ++s) longest = std::max(longest, batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]);
    if (longest <= workspace_tokens) return;
    workspace_tokens = 0;
    const size_t attention = std::max(variant.kernels->attention_scratch(longest, layout.architecture.head_dim),
                                      kernels.attention_scratch(longest, longest, layout.architecture.head_dim));
    for (TileWorkspace& workspace : workspaces) workspace.prepare(layout, element, longest, attention);
    workspace_tokens = longest;
  }

  void forward() {
    const int tiles = static_cast<int>(turn.tiles.size());
    std::vector<Phase> phases = {{tiles, [this](int tile, int worker) { TileOps(turn, workspaces[worker], tile).embed(); }, -1, {}}};
    for (int l = 0; l < layout.architecture.layers; ++l) {
      phases.push_back({tiles,
                        [this, l](int tile, int worker) {
                          TileOps ops(turn, workspaces[worker], tile);
                          if (options.recompute) ops.enter(l);
                          forward_layer(ops, layout, turn.skipped, l);
                        },
                        static_cast<int>(phases.size()) - 1,
                        {}});
    }
    run_phases(pool, phases);
  }

  /// The way back begins: what the logits' gradients mean for query-conditioned heads.
  void take(const std::vector<double>& logit_gradients) {
    turn.logit_gradients = logit_gradients;
    if (layout.architecture.head == HeadKind::query)
      turn.query_heads.backward(layout, turn.weights, *turn.batch, turn.memory.exit_rows(), pool, turn.logit_gradients);
  }

  /// Tiles go back through a layer; the gradients of its weights follow once they are through the one below, when all
  /// they need is long done. Memories alternate between layers, so a layer waits for the weights of the one two above.
  void backward(float* gradients) {
    const int layers = layout.architecture.layers, tiles = static_cast<int>(turn.tiles.size());
    std::vector<Phase> phases;
    std::vector<LayerGradients> weights;
    for (int l = 0; l < layers; ++l) weights.emplace_back(turn, l);
    std::vector<int> tiles_of(layers, -1), weights_of(layers, -1);
    const auto add_weights = [&](int l) {
      if (turn.skipped[l]) return;
      weights_of[l] = static_cast<int>(phases.size());
      phases.push_back({weights[l].tasks(), [this, &weights, l, gradients](int task, int worker) { weights[l].run(task, *gradient_workspaces[worker], gradients); }, -1, {tiles_of[l]}});
    };
    for (int l = layers - 1; l >= 0; --l) {
      tiles_of[l] = static_cast<int>(phases.size());
      Phase phase{tiles, [this, l](int tile, int worker) { backward_tile(l, tile, worker); }, l + 1 < layers ? tiles_of[l + 1] : -1, {}};
      if (l + 2 < layers && weights_of[l + 2] >= 0) phase.after.push_back(weights_of[l + 2]);
      phases.push_back(std::move(phase));
      if (l + 1 < layers) add_weights(l + 1);
    }
    const int embedding = static_cast<int>(phases.size());
    phases.push_back({tiles, [this](int tile, int worker) { TileOps(turn, workspaces[worker], tile).embed_backward(); }, tiles_of[0], {}});
    add_weights(0);
    phases.push_back({embedding_tasks(layout), [this, gradients](int task, int) { embedding_gradients(turn, task, gradients); }, -1, {embedding}});
    run_phases(pool, phases);
  }

  void backward_tile(int layer, int tile, int worker) {
    TileOps ops(turn, workspaces[worker], tile);
    ops.clear_norm_partials(layer);
    if (options.recompute) {
      ops.enter_again(layer);
      repeat_layer(ops, layout, turn.skipped, layer);
    }
    backward_layer(ops, layout, turn.skipped, layer);
  }

  const Layout& layout;
  const CpuTrainOptions options;
  const cpu::Variant& variant;
  const TrainKernels& kernels;
  const Element element;
  cpu::ThreadPool pool;
  PackedWeights packed;
  std::vector<TileWorkspace> workspaces;
  std::vector<std::unique_ptr<GradientWorkspace>> gradient_workspaces;
  int workspace_tokens = 0;  // the longest sequence the workspaces hold
  Turn turn;
};

CpuTrainBackend::CpuTrainBackend(const Layout& layout, const CpuTrainOptions& options) : state_(std::make_unique<State>(layout, options)) {}
CpuTrainBackend::~CpuTrainBackend() = default;

void CpuTrainBackend::set_weights(const float* weights) {
  state_->turn.weights = weights;
  state_->packed.pack(weights, state_->pool);
}

const std::vector<double>& CpuTrainBackend::forward(const TokenBatch& batch, const std::vector<uint8_t>& skipped) {
  state_->prepare(batch, skipped);
  state_->forward();
  Turn& turn = state_->turn;
  if (state_->layout.architecture.head == HeadKind::query) turn.query_heads.forward(state_->layout, turn.weights, batch, turn.memory.exit_rows(), state_->pool, turn.logits);
  return turn.logits;
}

void CpuTrainBackend::backward(const std::vector<double>& logit_gradients, float* gradients) {
  state_->take(logit_gradients);
  state_->backward(gradients);
}

void CpuTrainBackend::backward_heads(const std::vector<double>& logit_gradients, float* gradients) {
  state_->take(logit_gradients);
  state_->pool.each(state_->layout.heads.size(), [&](size_t exit) { head_gradients(state_->turn, static_cast<int>(exit), gradients); });
}

cpu::ThreadPool& CpuTrainBackend::pool() { return state_->pool; }

std::string CpuTrainBackend::describe() const {
  const int threads = state_->pool.threads();
  return std::string("train cpu ") + (state_->element == Element::bf16 ? "bf16 " : "f32 ") + state_->variant.isa + " " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
}

}  // namespace matryoshka::train
