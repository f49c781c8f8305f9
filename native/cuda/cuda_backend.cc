#include "cuda/cuda_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "cuda/batch_memory.h"
#include "cuda/device_model.h"
#include "cuda/kernels/attention.cuh"
#include "cuda/kernels/compact.cuh"
#include "cuda/kernels/decide.cuh"
#include "cuda/kernels/embed.cuh"
#include "cuda/kernels/gather.cuh"
#include "cuda/kernels/gemm.cuh"
#include "cuda/kernels/head.cuh"
#include "cuda/kernels/residual.cuh"
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

class CudaBackend final : public Backend, private Ops {
 public:
  CudaBackend(std::shared_ptr<const Checkpoint> checkpoint, std::unique_ptr<Stream> stream, ElementType type)
      : checkpoint_(std::move(checkpoint)),
        a_(checkpoint_->architecture()),
        stream_(std::move(stream)),
        type_(type),
        kernels_(kernels_of(stream_->kernels(), type)),
        model_(*checkpoint_, type, *stream_),
        memory_(*stream_, Place::device),
        staging_(*stream_, Place::staging) {}

  ~CudaBackend() override {
    try {
      stream_->wait();  // nothing queued may outlive the memory it works on
    } catch (const Error&) {
      // A device that has failed runs nothing any more.
    }
  }

  void begin(const TokenBatch& batch, int exits, bool states) override {
    if (states) throw Error("ERR_UNSUPPORTED_DEVICE", "Expected device cpu for scoring rows: a GPU gives scores only");
    if (queued_) stream_->wait();  // a cancelled batch may still be reading its staging memory
    queued_ = false;
    launches_.clear();
    sizes_ = BatchSizes::of(batch, exits, checkpoint_->compensated(), kernels_.query_block);
    lay_out();
    active_ = input_->active;
    spare_ = activations_->other;
    hidden_ = 0;
    mapped_ = compacted_ = has_difficulty_ = false;

    write(*staged_input_, batch, a_.position_offset, kernels_.query_block);
    queued_ = true;
    stream_->upload(memory_.data(), staging_.data(), input_bytes_);
    stream_->fill(results_->logits, 0xff, reinterpret_cast<char*>(results_->exit_layers) - reinterpret_cast<char*>(results_->logits));  // NaN
    stream_->fill(results_->exit_layers, 0, layout_.sequences);
  }

  void run(Rows rows, int steps, const std::function<void(Ops&, int)>& body) override {
    rows_ = rows;
    for (int step = 0; step < steps; ++step) body(*this, step);
  }

  void decide(const ExitRule& rule, int exit) override {
    if (rule.kind == RuleKind::none) return;
    if (!rule.difficulty.empty() && !has_difficulty_) {
      std::memcpy(staged_difficulty_, rule.difficulty.data(), sizeof(float) * sizes_.sequences);
      stream_->upload(activations_->difficulty, staged_difficulty_, sizeof(float) * sizes_.sequences);
      has_difficulty_ = true;
    }
    const DecideArgs decide = decide_args(rule, exit);
    launches_.add(stream_->kernels().decide, decide);
    const CompactArgs compact{active_,
                              spare_,
                              activations_->stop,
                              activations_->slots,
                              results_->exit_layers,
                              static_cast<unsigned char>(checkpoint_->exit_layers()[exit]),
                              kernels_.query_block};
    launches_.add(stream_->kernels().compact, compact);
    std::swap(active_, spare_);
    const MapRowsArgs map{active_, activations_->row_map};
    launches_.add(stream_->kernels().map_rows, map);
    mapped_ = compacted_ = true;
  }

  void finish(Scores& scores) override {
    stream_->run(launches_);
    stream_->download(staged_results_->logits, results_->logits, results_bytes_);
    stream_->wait();
    queued_ = false;
    scores.reset(0, sizes_.exits, false, 0);
    const size_t size = static_cast<size_t>(sizes_.sequences) * sizes_.exits;
    scores.logits.assign(staged_results_->logits, staged_results_->logits + size);
    if (sizes_.compensated) {
      scores.estimates.assign(staged_results_->estimates, staged_results_->estimates + size);
      scores.units.assign(staged_results_->units, staged_results_->units + size);
    }
    scores.exit_layers.assign(staged_results_->exit_layers, staged_results_->exit_layers + sizes_.sequences);
  }

  std::string describe() const override { return stream_->describe() + " " + name_of(type_); }

 private:
  /// A layout is kept while it holds what comes and is not eight times too large, since all of the input is uploaded.
  void lay_out() {
    const bool wasteful = layout_.tokens > 8 * sizes_.tokens;
    try {
      take_memory(sizes_.roomier(wasteful ? BatchSizes() : layout_));
    } catch (const Error& error) {
      if (error.code() != "ERR_OUT_OF_MEMORY") throw;
      take_memory(sizes_);  // without the room, it may fit
    }
  }

  void take_memory(const BatchSizes& layout) {
    layout_ = BatchSizes();
    Carver count(nullptr);
    BatchInput(count, layout);
    input_bytes_ = count.bytes();
    BatchResults(count, layout);
    results_bytes_ = count.bytes() - input_bytes_;
    const size_t host_bytes = count.bytes() + layout.sequences * sizeof(float);
    BatchActivations(count, layout, model_.shape, type_);
    check_room(count.bytes(), layout.tokens);
    staging_.reserve(host_bytes);
    memory_.reserve(count.bytes());

    Carver host(staging_.data()), device(memory_.data());
    staged_input_.emplace(host, layout);
    input_.emplace(device, layout);
    staged_results_.emplace(host, layout);
    results_.emplace(device, layout);
    staged_difficulty_ = host.take<float>(0);
    activations_.emplace(device, layout, model_.shape, type_);
    layout_ = layout;
  }

  /// Asks before it takes: what is given up first counts as free, and something stays for the driver and for others.
  void check_room(size_t bytes, int tokens) const {
    if (bytes <= memory_.size()) return;
    const size_t free = std::min(stream_->free_bytes(), std::numeric_limits<size_t>::max() / 2) + memory_.size();
    const size_t room = free > kSpared ? free - kSpared : 0;
    if (bytes <= room) return;
    const auto mebibytes = [](size_t n) { return std::to_string(n >> 20) + " MiB"; };
    throw Error("ERR_OUT_OF_MEMORY", "Expected " + mebibytes(bytes) + " for a batch of " + std::to_string(tokens) + " tokens but " + stream_->describe() +
                                         " has " + mebibytes(room) + " to give, enough for about " +
                                         std::to_string(static_cast<long>(static_cast<double>(tokens) * room / bytes)) +
                                         "; send fewer or shorter documents at a time");
  }

  static constexpr size_t kSpared = size_t{256} << 20;

  bool tokens() const { return rows_ == Rows::tokens; }
  /// How many rows the ops work on: an address in device memory.
  const int* row_count() const { return active_.counts + (tokens() ? kRows : kSequences); }
  /// Where hidden's rows are to be found until the first residual after a compaction has moved them.
  const int* row_map() const { return tokens() && mapped_ ? activations_->row_map : nullptr; }

  void* slot(Slot which) const {
    switch (which) {
      case Slot::hidden:
        return tokens() ? activations_->hidden[hidden_] : activations_->scoring;
      case Slot::key_value:
        return activations_->key_value;
      case Slot::query:
        return activations_->query;
      case Slot::context:
        return activations_->context;
      case Slot::branch:
        return activations_->branch;
      case Slot::mlp:
        break;
    }
    return activations_->mlp;
  }

  void embed() override {
    const EmbedArgs args{row_count(),
                         input_->tokens,
                         input_->positions,
                         input_->types,
                         model_.word,
                         model_.position,
                         model_.type,
                         model_.embedding_norm.weight,
                         model_.embedding_norm.bias,
                         slot(Slot::hidden),
                         a_.hidden,
                         model_.shape.hidden,
                         a_.norm_eps};
    launches_.add(kernels_.embed[model_.shape.row_width_index], args);
  }

  void gather() override {
    const int row_chunks = static_cast<int>(model_.shape.hidden * bytes_of(type_) / 16);
    const GatherArgs args{active_, activations_->hidden[hidden_], activations_->scoring, row_chunks};
    launches_.add(stream_->kernels().gather, args);
  }

  void multiply(const DeviceModel::Linear& linear, const void* input, const int* map, const int* rows, void* output, Activation activation) {
    const GemmArgs args{input, map, linear.weight, linear.bias, output, rows, linear.n, linear.k};
    launches_.add(kernels_.gemm[static_cast<int>(activation)], args);
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
                             1 / std::sqrt(static_cast<float>(a_.head_dim))};
    launches_.add(kernels_.attention[model_.shape.head_dim_index], args);
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
    launches_.add(kernels_.residual[model_.shape.row_width_index], args);
  }

  void head(int exit) override {
    const DeviceModel::Head& head = model_.heads[exit];
    const void* rows = slot(Slot::hidden);
    bool token_rows = tokens();
    if (head.dense.n) {  // the row map that gathers scoring rows is cu_seqlens itself
      multiply(head.dense, rows, token_rows ? active_.cu_seqlens : nullptr, active_.counts + kSequences, activations_->pooled, Activation::tanh);
      rows = activations_->pooled;
      token_rows = false;
    }
    HeadArgs args{active_, rows, token_rows, head.weight, head.bias, results_->logits, model_.shape.hidden, sizes_.exits, exit, nullptr, nullptr, {}};
    if (sizes_.compensated) {
      const DeviceModel::Compensation& c = model_.compensations[exit];
      args.estimates = results_->estimates;
      args.units = results_->units;
      args.compensation = {c.hidden_weight, c.hidden_bias, c.output, {c.output_bias[0], c.output_bias[1]}, c.units};
    }
    launches_.add(kernels_.head[model_.shape.row_width_index], args);
  }

  DecideArgs decide_args(const ExitRule& rule, int exit) const {
    const int at = rule.head_at(exit);
    const ExitHead& head = rule.heads[at];
    const ExitHead before = at > 0 ? rule.heads[at - 1] : ExitHead();
    DecideArgs args{};
    args.active = active_;
    args.logits = sizes_.compensated ? results_->estimates : results_->logits;
    args.units = results_->units;
    args.exits = sizes_.exits;
    args.rule = rule.kind == RuleKind::top_k ? Rule::top_k : Rule::confidence;
    args.over_list = rule.over_list;
    args.has_previous = at > 0;
    args.exit = exit;
    args.previous_exit = before.exit;
    args.slope = head.slope;
    args.offset = head.offset;
    args.previous_slope = before.slope;
    args.previous_offset = before.offset;
    args.width = head.width;
    args.trend = head.trend;
    args.scale = rule.scale;
    args.k = rule.k;
    args.sure = head.sure;
    args.easy = rule.easy;
    args.difficulty = rule.difficulty.empty() ? nullptr : activations_->difficulty;
    args.low = activations_->low;
    args.high = activations_->high;
    args.terms = activations_->terms;
    args.stop = activations_->stop;
    return args;
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  const Architecture& a_;
  std::unique_ptr<Stream> stream_;
  const ElementType type_;
  const ElementKernels& kernels_;
  DeviceModel model_;
  DeviceBuffer memory_, staging_;

  // Of the batch under way. The host follows which buffer is current; it never knows how much is in it.
  bool queued_ = false;
  BatchSizes sizes_, layout_;
  LaunchSequence launches_;
  std::optional<BatchInput> input_, staged_input_;
  std::optional<BatchResults> results_, staged_results_;
  std::optional<BatchActivations> activations_;
  float* staged_difficulty_ = nullptr;
  size_t input_bytes_ = 0, results_bytes_ = 0;
  ActiveSetView active_{}, spare_{};
  Rows rows_ = Rows::tokens;
  int hidden_ = 0;          // the current one of the two buffers
  bool mapped_ = false;     // hidden lies as before the last compaction: read it through the row map
  bool compacted_ = false;  // … and so do keys and values
  bool has_difficulty_ = false;
};

}  // namespace
}  // namespace cuda

std::unique_ptr<Backend> make_cuda_backend(std::shared_ptr<const Checkpoint> checkpoint, std::unique_ptr<cuda::Stream> stream,
                                           cuda::ElementType type) {
  return std::make_unique<cuda::CudaBackend>(std::move(checkpoint), std::move(stream), type);
}

}  // namespace matryoshka
