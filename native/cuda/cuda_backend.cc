#include "cuda/cuda_backend.h"

#include <algorithm>
#include <cmath>

#include "cuda/device_model.h"
#include "cuda/kernels/attention.cuh"
#include "cuda/kernels/compact.cuh"
#include "cuda/kernels/decide.cuh"
#include "cuda/kernels/embed.cuh"
#include "cuda/kernels/gather.cuh"
#include "cuda/kernels/gemm.cuh"
#include "cuda/kernels/head.cuh"
#include "cuda/kernels/residual.cuh"
#include "cuda/workspace.h"
#include "model/error.h"

namespace matryoshka {
namespace cuda {
namespace {

Activation activation_of(matryoshka::Activation activation) {
  switch (activation) {
    case matryoshka::Activation::gelu_tanh:
      return Activation::gelu_tanh;
    case matryoshka::Activation::relu:
      return Activation::relu;
    case matryoshka::Activation::gelu:
      break;
  }
  return Activation::gelu;
}

Rule rule_of(RuleKind kind) {
  if (kind == RuleKind::top_k) return Rule::top_k;
  return kind == RuleKind::budget ? Rule::budget : Rule::confidence;
}

class CudaBackend final : public Backend, private Ops {
 public:
  CudaBackend(std::shared_ptr<const Checkpoint> checkpoint, std::unique_ptr<Stream> stream, ElementType type)
      : checkpoint_(std::move(checkpoint)),
        a_(checkpoint_->architecture()),
        stream_(std::move(stream)),
        type_(type),
        kernels_(kernels_of(stream_->kernels(), type)),
        model_(*checkpoint_, type, *stream_),
        workspace_(*stream_, model_.shape, type) {}

  size_t capacity() const override { return Workspace::kFlights; }

  void begin(const TokenBatch& batch, int exits, bool states) override {
    if (states) throw Error("ERR_UNSUPPORTED_DEVICE", "Expected device cpu for scoring rows: a GPU gives scores only");
    flight_ = &workspace_.begin(BatchSizes::of(batch, exits, checkpoint_->compensated(), kernels_.query_block));
    write(*flight_->staged_input, batch, a_.position_offset, kernels_.query_block);
    active_ = flight_->input->active;
    spare_ = activations().other;
    hidden_ = 0;
    mapped_ = compacted_ = false;
  }

  void run(Rows rows, int steps, const std::function<void(Ops&, int)>& body) override {
    rows_ = rows;
    for (int step = 0; step < steps; ++step) body(*this, step);
  }

  void decide(const ExitRule& rule, int exit) override {
    if (rule.kind == RuleKind::none) return;
    std::copy(rule.difficulty.begin(), rule.difficulty.end(), flight_->staged_input->difficulty);
    const DecideArgs decide = decide_args(rule, exit);
    if (decide.rule == Rule::budget) std::copy_n(rule.discounts.begin(), decide.k, flight_->staged_input->discounts);
    launch(stream_->kernels().decide, decide);
    const CompactArgs compact{active_,
                              spare_,
                              activations().stop,
                              activations().slots,
                              results().exit_layers,
                              static_cast<unsigned char>(checkpoint_->exit_layers()[exit]),
                              kernels_.query_block};
    launch(stream_->kernels().compact, compact);
    std::swap(active_, spare_);
    const MapRowsArgs map{active_, activations().row_map};
    launch(stream_->kernels().map_rows, map);
    mapped_ = compacted_ = true;
  }

  void submit() override { workspace_.submit(); }

  void finish(Scores& scores) override {
    const Flight& flight = workspace_.finish();
    const BatchSizes& sizes = flight.sizes;
    const BatchResults& found = *flight.staged_results;
    scores.reset(0, sizes.exits, false, 0);
    const size_t size = static_cast<size_t>(sizes.sequences) * sizes.exits;
    scores.logits.assign(found.logits, found.logits + size);
    if (sizes.compensated) {
      scores.estimates.assign(found.estimates, found.estimates + size);
      scores.units.assign(found.units, found.units + size);
    }
    scores.exit_layers.assign(found.exit_layers, found.exit_layers + sizes.sequences);
  }

  std::string describe() const override { return stream_->describe() + " " + name_of(type_); }

 private:
  const BatchActivations& activations() const { return workspace_.activations(); }
  const BatchResults& results() const { return *flight_->results; }
  template <class Args>
  void launch(const Kernel& kernel, const Args& args) {
    flight_->launches.add(kernel, args);
  }

  bool tokens() const { return rows_ == Rows::tokens; }
  /// How many rows the ops work on: an address in device memory.
  const int* row_count() const { return active_.counts + (tokens() ? kRows : kSequences); }
  /// Where hidden's rows are to be found until the first residual after a compaction has moved them.
  const int* row_map() const { return tokens() && mapped_ ? activations().row_map : nullptr; }

  void* slot(Slot which) const {
    switch (which) {
      case Slot::hidden:
        return tokens() ? activations().hidden[hidden_] : activations().scoring;
      case Slot::key_value:
        return activations().key_value;
      case Slot::query:
        return activations().query;
      case Slot::context:
        return activations().context;
      case Slot::branch:
        return activations().branch;
      case Slot::mlp:
        break;
    }
    return activations().mlp;
  }

  void embed() override {
    const EmbedArgs args{row_count(),
                         flight_->input->tokens,
                         flight_->input->positions,
                         flight_->input->types,
                         model_.word,
                         model_.position,
                         model_.type,
                         model_.embedding_norm.weight,
                         model_.embedding_norm.bias,
                         slot(Slot::hidden),
                         a_.hidden,
                         model_.shape.hidden,
                         a_.norm_eps};
    launch(kernels_.embed[model_.shape.row_width_index], args);
  }

  void gather() override {
    const int row_chunks = static_cast<int>(model_.shape.hidden * bytes_of(type_) / 16);
    const GatherArgs args{active_, activations().hidden[hidden_], activations().scoring, row_chunks};
    launch(stream_->kernels().gather, args);
  }

  void multiply(const DeviceModel::Linear& linear, const void* input, const int* map, const int* rows, void* output, Activation activation) {
    const GemmArgs args{input, map, linear.weight, linear.bias, output, rows, linear.n, linear.k};
    launch(kernels_.gemm[static_cast<int>(activation)], args);
  }

  void linear(int layer, Projection which, Slot in, Slot out) override {
    if (which == Projection::key_value) compacted_ = false;
    multiply(model_.layers[layer].linear[static_cast<int>(which)], slot(in), in == Slot::hidden ? row_map() : nullptr, row_count(), slot(out),
             which == Projection::up ? activation_of(a_.activation) : Activation::none);
  }

  void attention() override {
    const AttentionArgs args{slot(Slot::query),
                             slot(Slot::key_value),
                             slot(Slot::context),
                             active_,
                             !tokens(),
                             compacted_,
                             model_.shape.heads,
                             model_.shape.heads,
                             1 / std::sqrt(static_cast<float>(a_.head_dim))};
    launch(kernels_.attention[model_.shape.head_dim_index], args);
  }

  void residual(int layer, Site site) override {
    const DeviceModel::Norm& norm = model_.layers[layer].norm[static_cast<int>(site)];
    const void* const from = slot(Slot::hidden);
    const int* const map = row_map();
    if (map) {  // rows move: into the other buffer, where the map no longer applies
      hidden_ ^= 1;
      mapped_ = false;
    }
    const ResidualArgs args{row_count(), map, from, slot(Slot::branch), norm.weight, norm.bias, slot(Slot::hidden), a_.hidden, model_.shape.hidden,
                            a_.norm_eps};
    launch(kernels_.residual[model_.shape.row_width_index], args);
  }

  void head(int exit) override {
    const DeviceModel::Head& head = model_.heads[exit];
    const void* rows = slot(Slot::hidden);
    bool token_rows = tokens();
    const void* weight = head.weight;
    const int* query_of = nullptr;
    if (a_.head == HeadKind::query) {  // queries are the first sequences, and stay
      multiply(head.dense, rows, token_rows ? active_.cu_seqlens : nullptr, flight_->input->queries, activations().pooled, Activation::none);
      weight = activations().pooled;
      query_of = flight_->input->query_of;
    } else if (head.dense.n) {  // the row map that gathers scoring rows is cu_seqlens itself
      multiply(head.dense, rows, token_rows ? active_.cu_seqlens : nullptr, active_.counts + kSequences, activations().pooled, Activation::tanh);
      rows = activations().pooled;
      token_rows = false;
    }
    HeadArgs args{active_, rows, token_rows, query_of, weight, head.bias, head.carry, results().logits, model_.shape.hidden, flight_->sizes.exits, exit, nullptr, nullptr, {}};
    if (flight_->sizes.compensated) {
      const DeviceModel::Compensation& c = model_.compensations[exit];
      args.estimates = results().estimates;
      args.units = results().units;
      args.compensation = {c.hidden_weight, c.hidden_bias, c.output, {c.output_bias[0], c.output_bias[1]}, c.units};
    }
    launch(kernels_.head[model_.shape.row_width_index], args);
  }

  DecideArgs decide_args(const ExitRule& rule, int exit) const {
    const int at = rule.head_at(exit);
    const ExitHead& head = rule.heads[at];
    const auto estimate_of = [&](int index) {
      const ExitHead& of = rule.heads[index];
      return Estimate{of.exit, of.slope, of.offset};
    };
    DecideArgs args{};
    args.active = active_;
    args.logits = flight_->sizes.compensated ? results().estimates : results().logits;
    args.units = results().units;
    args.exits = flight_->sizes.exits;
    args.rule = rule_of(rule.kind);
    args.over_list = rule.over_list;
    args.has_previous = at > 0;
    args.now = estimate_of(at);
    args.previous = estimate_of(std::max(at - 1, 0));
    args.width = head.width;
    args.trend = head.trend;
    args.spread = head.spread;
    args.measured = rule.reads_spread();
    args.first = estimate_of(0);
    args.second = estimate_of(rule.heads.size() > 1 ? 1 : 0);
    args.list_offsets = flight_->input->list_offsets;
    args.scale = rule.scale;
    args.k = rule.kind == RuleKind::budget ? static_cast<int>(std::min<size_t>(rule.discounts.size(), kMostDiscounts)) : rule.k;
    args.stake = rule.stake;
    args.discounts = flight_->input->discounts;
    args.place = activations().place;
    args.span = activations().span;
    args.level = activations().level;
    args.gain = activations().gain;
    args.rank = activations().rank;
    args.sure = head.sure;
    args.easy = rule.easy;
    args.difficulty = rule.difficulty.empty() ? nullptr : flight_->input->difficulty;
    args.low = activations().low;
    args.high = activations().high;
    args.terms = activations().terms;
    args.stop = activations().stop;
    return args;
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  const Architecture& a_;
  std::unique_ptr<Stream> stream_;
  const ElementType type_;
  const ElementKernels& kernels_;
  DeviceModel model_;
  Workspace workspace_;

  // Of the batch being written down. The host follows which buffer is current; it never knows how much is in it.
  Flight* flight_ = nullptr;
  ActiveSetView active_{}, spare_{};
  Rows rows_ = Rows::tokens;
  int hidden_ = 0;          // the current one of the two buffers
  bool mapped_ = false;     // hidden lies as before the last compaction: read it through the row map
  bool compacted_ = false;  // … and so do keys and values
};

}  // namespace
}  // namespace cuda

std::unique_ptr<Backend> make_cuda_backend(std::shared_ptr<const Checkpoint> checkpoint, std::unique_ptr<cuda::Stream> stream,
                                           cuda::ElementType type) {
  return std::make_unique<cuda::CudaBackend>(std::move(checkpoint), std::move(stream), type);
}

}  // namespace matryoshka
