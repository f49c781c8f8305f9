#include "cpu/cpu_backend.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <new>
#include <cstring>

#include "cpu/batch_state.h"
#include "cpu/cpu_features.h"
#include "cpu/packed_model.h"
#include "cpu/spin.h"
#include "cpu/thread_pool.h"
#include "cpu/tile_ops.h"
#include "cpu/workspace.h"
#include "model/error.h"

namespace matryoshka {
namespace cpu {
namespace {

constexpr int kTileTokens = 160;
constexpr int kTileSequences = 64;

Elements elements_of(Dtype dtype, const Kernels& kernels) {
  Elements e;
  if (dtype == Dtype::f32) return e;
  if (kernels.bf16_dot) e.attention = Element::bf16;
  if (dtype == Dtype::int8) e.integer_input = input_of(kernels.int8);
  else if (kernels.bf16_dot) e.wide = Element::bf16;
  e.bf16_input = kernels.bf16_dot;
  return e;
}

const char* name_of(Dtype dtype) { return dtype == Dtype::f32 ? "f32" : dtype == Dtype::bf16 ? "bf16" : "int8"; }

class CpuBackend final : public Backend {
 public:
  CpuBackend(std::shared_ptr<const Checkpoint> checkpoint, const CpuOptions& options)
      : checkpoint_(std::move(checkpoint)),
        variant_(choose_variant(options.isa)),
        dtype_(options.dtype),
        elements_(elements_of(options.dtype, *variant_.kernels)),
        pool_(options.threads),
        model_(*checkpoint_, *variant_.kernels, options.dtype, pool_),
        workspaces_(options.threads) {}

  void begin(const TokenBatch& batch, int exits, bool states) override {
    size_t bytes = 0;
    try {
      take(batch, exits, states, bytes);
    } catch (const std::bad_alloc&) {
      batch_memory_ = AlignedBuffer();
      throw Error("ERR_OUT_OF_MEMORY", "Expected " + std::to_string(bytes) + " bytes of memory for a batch of " + std::to_string(batch.tokens()) +
                                           " tokens but the system gave none; send fewer or shorter documents at a time");
    }
  }

  void run(Rows rows, int steps, const std::function<void(Ops&, int)>& body) override {
    const int queries = state_.batch->queries;
    if (queries > 0 && state_.active.size() == queries) return;  // nobody is left to compare with them
    const std::vector<Tile> tiles = rows == Rows::tokens ? cut_by_tokens(state_.active, queries, pool_.threads(), kTileTokens)
                                                         : cut_by_sequences(state_.active, queries, pool_.threads(), kTileSequences);
    const size_t query_tiles = std::count_if(tiles.begin(), tiles.end(), [&](const Tile& tile) { return tile.first < queries; });
    // Tasks are (step, tile) in step-major order: a tile's previous step is normally long done, so no layer has a barrier.
    const size_t tile_count = tiles.size(), tasks = tile_count * static_cast<size_t>(std::max(steps, 0));
    // Passes over tokens alternate in direction, so that each begins with the rows that the one before left in cache.
    if (rows == Rows::tokens) backwards_ = !backwards_;
    std::vector<std::atomic<int>> done(tile_count);
    for (std::atomic<int>& d : done) d = 0;
    std::atomic<size_t> next{0};
    std::atomic<bool> failed{false};
    const int workers = static_cast<int>(std::min<size_t>(pool_.threads(), tile_count));
    pool_.run(workers, [&](int worker) {
      try {
        for (size_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
          const size_t place = task % tile_count;
          const size_t tile = backwards_ && place >= query_tiles ? tile_count - 1 - (place - query_tiles) : place;
          const int step = static_cast<int>(task / tile_count);
          const auto wait = [&](size_t other, int steps) {
            return spin_until([&] { return done[other].load(std::memory_order_acquire) >= steps; }, failed);
          };
          if (!wait(tile, step)) return;
          // Queries come first in every step, so somebody has them by the time that a document's head wants them.
          const auto queries_ready = [&] {
            for (size_t query = 0; query < query_tiles; ++query) wait(query, step + 1);
          };
          TileOps ops(*checkpoint_, *variant_.kernels, model_, state_, workspaces_[worker], rows, tiles[tile], queries_ready);
          body(ops, step);
          done[tile].store(step + 1, std::memory_order_release);
        }
      } catch (...) {
        failed = true;
        throw;
      }
    });
  }

  void decide(const ExitRule& rule, int exit) override {
    ActiveSet& active = state_.active;
    Scores& scores = state_.scores;
    std::vector<uint8_t> stop;
    matryoshka::decide(rule, rule.head_at(exit), state_.batch->list_offsets, active, scores, state_.standings, stop);
    for (int i = 0; i < active.size(); ++i)
      if (stop[i]) scores.exit_layers[active.sequences[i]] = static_cast<uint8_t>(checkpoint_->exit_layers()[exit]);
    for (const RowMove& move : compact(active, stop)) {
      for (const Rows2d* m : {&state_.hidden, &state_.key_value}) std::memmove(m->row(move.to), m->row(move.from), m->stride * move.rows);
    }
  }

  void finish(Scores& scores) override {
    scores = std::move(state_.scores);
    state_.batch = nullptr;
    if (batch_memory_.size() > kKeep) batch_memory_ = AlignedBuffer();
  }

  std::string describe() const override {
    return std::string("cpu ") + name_of(dtype_) + " " + variant_.isa + " " + std::to_string(pool_.threads()) + (pool_.threads() == 1 ? " thread" : " threads");
  }

 private:
  static constexpr size_t kKeep = size_t{256} << 20;  // bytes a batch may leave behind for the next one

  void take(const TokenBatch& batch, int exits, bool states, size_t& bytes) {
    const Architecture& a = checkpoint_->architecture();
    const int sequences = batch.sequences();
    state_.hidden.stride = row_stride(a.hidden, Element::f32);
    state_.scoring.stride = state_.hidden.stride;
    state_.key_value.element = elements_.attention;
    state_.key_value.stride = row_stride(2 * a.hidden, elements_.attention);
    const size_t hidden = state_.hidden.stride * batch.tokens(), key_value = state_.key_value.stride * batch.tokens(),
                 scoring = state_.scoring.stride * sequences;
    bytes = hidden + key_value + scoring;
    if (bytes > batch_memory_.size()) {
      batch_memory_ = AlignedBuffer();
      batch_memory_ = AlignedBuffer(bytes + bytes / 4);
    }
    state_.hidden.data = batch_memory_.data();
    state_.key_value.data = state_.hidden.data + hidden;
    state_.scoring.data = state_.key_value.data + key_value;

    int longest = 0;
    for (int s = 0; s < sequences; ++s) longest = std::max(longest, batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]);
    grow_workspaces(longest);

    state_.batch = &batch;
    state_.active = ActiveSet::all(batch);
    state_.head_vectors.resize(static_cast<size_t>(batch.queries) * exits * a.hidden);
    state_.scores.reset(sequences, exits, checkpoint_->compensated(), states ? a.hidden : 0);
    state_.standings.reset(sequences, batch.lists());
  }

  void grow_workspaces(int longest) {
    if (longest <= workspace_tokens_) return;
    const Architecture& a = checkpoint_->architecture();
    const size_t gemm = variant_.kernels->gemm_scratch(std::max(a.hidden, a.intermediate));
    workspace_tokens_ = 0;
    for (Workspace& workspace : workspaces_) {
      workspace = Workspace();
      workspace = Workspace(a, elements_, std::max({longest, kTileTokens, kTileSequences}), variant_.kernels->attention_scratch(std::max(longest, kTileTokens), a.head_dim), gemm);
    }
    workspace_tokens_ = std::max(longest, kTileTokens);
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  const Variant& variant_;
  const Dtype dtype_;
  const Elements elements_;
  ThreadPool pool_;
  PackedModel model_;
  std::vector<Workspace> workspaces_;
  int workspace_tokens_ = 0;  // the longest sequence they hold
  bool backwards_ = false;
  AlignedBuffer batch_memory_;
  BatchState state_;
};

}  // namespace
}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(std::shared_ptr<const Checkpoint> checkpoint, const CpuOptions& options) {
  try {
    return std::make_unique<cpu::CpuBackend>(std::move(checkpoint), options);
  } catch (const std::bad_alloc&) {
    throw Error("ERR_OUT_OF_MEMORY", "Expected enough memory to pack the model's weights but the system gave none");
  }
}

}  // namespace matryoshka
