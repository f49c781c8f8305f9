#include "train/cuda/cuda_train_backend.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "cuda/device_buffer.h"
#include "cuda/kernels/training/rows.cuh"
#include "cuda/padded_shape.h"
#include "model/error.h"
#include "train/cuda/cuda_train_ops.h"
#include "train/heads.h"

namespace matryoshka::train {
namespace {

using cuda::Carver;
using cuda::DeviceBuffer;
using cuda::Place;

/// Kernels have no remainders here: padding would have to be kept out of every gradient.
const Layout& checked(const Layout& layout) {
  const Architecture& a = layout.architecture;
  const cuda::PaddedShape shape = cuda::PaddedShape::of(a);
  if (shape.hidden != a.hidden || shape.intermediate != a.intermediate || shape.head_dim != a.head_dim || shape.heads != a.heads)
    throw Error("ERR_UNSUPPORTED_ARCHITECTURE", "Expected a model with heads of 32, 64 or 128 and hidden sizes that are multiples of 64 to train on a GPU, but it has heads of " +
                                                    std::to_string(a.head_dim) + ", hidden size " + std::to_string(a.hidden) + " and intermediate size " +
                                                    std::to_string(a.intermediate) + "; train on the CPU");
  return layout;
}

class CudaTrainBackend final : public TrainBackend {
 public:
  CudaTrainBackend(const Layout& layout, std::unique_ptr<cuda::Stream> stream, int threads)
      : layout_(checked(layout)),
        encoder_(layout.heads.front().weight),
        stream_(std::move(stream)),
        pool_(threads),
        weights_(*stream_, Place::device),
        transfer_(*stream_, Place::staging),
        input_(*stream_, Place::device),
        staged_input_(*stream_, Place::staging),
        staged_rows_(*stream_, Place::staging),
        memory_(*stream_, Place::device) {
    Carver counted(nullptr);
    carve_weights(counted);
    weights_.reserve(counted.bytes());
    Carver carver(weights_.data());
    carve_weights(carver);
    transfer_.reserve(encoder_ * sizeof(float));
    const cuda::PaddedShape shape = cuda::PaddedShape::of(layout.architecture);
    turn_.layout = &layout_;
    turn_.kernels = &stream_->kernels();
    turn_.head_dim_index = shape.head_dim_index;
    turn_.row_width_index = shape.row_width_index;
  }

  void set_weights(const float* weights) override {
    host_weights_ = weights;
    float* const staged = reinterpret_cast<float*>(transfer_.data());
    each_part([&](size_t first, size_t last) { std::copy(weights + first, weights + last, staged + first); });
    stream_->upload(device_weights_, staged, encoder_ * sizeof(float));
    launches_.clear();
    launches_.add(turn_.kernels->training.narrow, cuda::NarrowArgs{device_weights_, turn_.elements, static_cast<int>(encoder_ / 8)});
    stream_->run(launches_);
    stream_->wait(stream_->mark());
  }

  const std::vector<double>& forward(const TokenBatch& batch, const std::vector<uint8_t>& skipped) override {
    prepare(batch, skipped);
    CudaTrainOps ops = begin();
    ops.embed();
    for (int l = 0; l < layout_.architecture.layers; ++l) forward_layer(ops, layout_, skipped, l);
    stream_->run(launches_);
    stream_->download(staged_rows_.data(), memory().exit_rows, row_bytes());
    stream_->wait(stream_->mark());
    score();
    return logits_;
  }

  void backward(const std::vector<double>& logit_gradients, float* gradients) override {
    head_gradients(logit_gradients, gradients);
    stream_->upload(memory().exit_gradients, staged_gradients(), row_bytes());
    stream_->fill(turn_.gradients, 0, encoder_ * sizeof(float));
    CudaTrainOps ops = begin();
    for (int l = layout_.architecture.layers; l-- > 0;) backward_layer(ops, layout_, turn_.skipped, l);
    ops.embed_backward();
    stream_->run(launches_);
    stream_->download(transfer_.data(), turn_.gradients, encoder_ * sizeof(float));
    stream_->wait(stream_->mark());
    const float* const found = reinterpret_cast<const float*>(transfer_.data());
    each_part([&](size_t first, size_t last) {
      for (size_t i = first; i < last; ++i) gradients[i] += found[i];
    });
  }

  void backward_heads(const std::vector<double>& logit_gradients, float* gradients) override { head_gradients(logit_gradients, gradients); }

  cpu::ThreadPool& pool() override { return pool_; }
  std::string describe() const override { return "train " + stream_->describe() + " bf16"; }

 private:
  void carve_weights(Carver& carver) {
    turn_.weights = device_weights_ = carver.take<float>(encoder_);
    turn_.elements = carver.take<Element16>(encoder_);
    turn_.gradients = carver.take<float>(encoder_);
  }

  /// Lays a turn out and uploads what it reads.
  void prepare(const TokenBatch& batch, const std::vector<uint8_t>& skipped) {
    batch_ = &batch;
    turn_.skipped = skipped;
    turn_.tokens = batch.tokens();
    turn_.sequences = batch.sequences();
    const TurnInput::Lists lists(batch, layout_.architecture.position_offset, turn_.kernels->bf16.query_block);
    Carver counted(nullptr), activations(nullptr);
    TurnInput(counted, lists);
    TurnActivations(activations, layout_, turn_.tokens, turn_.sequences);
    try {
      for (DeviceBuffer* buffer : {&input_, &staged_input_}) buffer->reserve(counted.bytes());
      memory_.reserve(activations.bytes());
      staged_rows_.reserve(2 * row_bytes());
    } catch (const Error& error) {
      if (error.code() != "ERR_OUT_OF_MEMORY") throw;
      throw Error("ERR_OUT_OF_MEMORY", "Expected " + std::to_string(activations.bytes() >> 20) + " MiB of GPU memory for a turn of " + std::to_string(turn_.tokens) +
                                           " tokens but it has not so much to give; lower turnTokens or shorten the lists");
    }
    Carver staged(staged_input_.data()), device(input_.data()), inner(memory_.data());
    TurnInput(staged, lists).write(lists);
    device_input_.emplace(device, lists);
    activations_.emplace(inner, layout_, turn_.tokens, turn_.sequences);
    turn_.input = &*device_input_;
    turn_.memory = &*activations_;
    stream_->upload(input_.data(), staged_input_.data(), counted.bytes());
    logits_.assign(static_cast<size_t>(turn_.sequences) * exits(), 0);
  }

  CudaTrainOps begin() {
    launches_.clear();
    return CudaTrainOps(turn_, *stream_, launches_);
  }

  int exits() const { return static_cast<int>(layout_.heads.size()); }
  int hidden() const { return layout_.architecture.hidden; }
  bool queries() const { return layout_.architecture.head == HeadKind::query; }
  const TurnActivations& memory() const { return *activations_; }
  size_t row_count() const { return static_cast<size_t>(exits()) * turn_.sequences; }
  size_t row_bytes() const { return row_count() * hidden() * sizeof(float); }
  ExitRows exit_rows() const { return {reinterpret_cast<const float*>(staged_rows_.data()), turn_.sequences, hidden()}; }
  float* staged_gradients() const { return reinterpret_cast<float*>(staged_rows_.data()) + row_count() * hidden(); }

  void score() {
    if (queries()) return query_heads_.forward(layout_, host_weights_, *batch_, exit_rows(), pool_, logits_);
    for (int s = 0; s < turn_.sequences; ++s)
      for (int exit = 0; exit < exits(); ++exit)
        logits_[static_cast<size_t>(s) * exits() + exit] = linear_logit(layout_, host_weights_, exit, exit_rows().at(exit, s));
  }

  /// Of the heads' own weights, and of the scoring rows, staged.
  void head_gradients(const std::vector<double>& logit_gradients, float* gradients) {
    if (queries()) query_heads_.backward(layout_, host_weights_, *batch_, exit_rows(), pool_, logit_gradients);
    float* const staged = staged_gradients();
    std::memset(staged, 0, row_bytes());
    pool_.each(exits(), [&](int exit) {
      for (int s = 0; s < turn_.sequences; ++s)
        add_row_gradient(layout_, host_weights_, *batch_, query_heads_, exit, s, logit_gradients[static_cast<size_t>(s) * exits() + exit],
                         staged + (static_cast<size_t>(exit) * turn_.sequences + s) * hidden());
      add_head_gradients(layout_, *batch_, query_heads_, exit_rows(), logit_gradients, exit, gradients);
    });
  }

  /// The encoder's numbers, cut among the pool.
  template <class Body>
  void each_part(const Body& body) {
    const size_t parts = pool_.threads();
    pool_.run(pool_.threads(), [&](int part) { body(encoder_ * part / parts, encoder_ * (part + 1) / parts); });
  }

  const Layout& layout_;
  const size_t encoder_;  ///< numbers before the first head
  std::unique_ptr<cuda::Stream> stream_;
  cpu::ThreadPool pool_;
  DeviceBuffer weights_, transfer_, input_, staged_input_, staged_rows_, memory_;
  float* device_weights_ = nullptr;
  const float* host_weights_ = nullptr;
  const TokenBatch* batch_ = nullptr;
  std::optional<TurnInput> device_input_;
  std::optional<TurnActivations> activations_;
  DeviceTurn turn_;
  QueryHeads query_heads_;
  std::vector<double> logits_;
  cuda::LaunchSequence launches_{false};  ///< a turn's sizes rarely come again
};

}  // namespace

std::unique_ptr<TrainBackend> make_cuda_train_backend(const Layout& layout, std::unique_ptr<cuda::Stream> stream, int threads) {
  return std::make_unique<CudaTrainBackend>(layout, std::move(stream), threads);
}

}  // namespace matryoshka::train
