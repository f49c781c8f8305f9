#include "train/cpu/packed_weights.h"

#include <algorithm>
#include <atomic>

namespace matryoshka::train {
namespace {

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace

PackedWeights::PackedWeights(const Layout& layout, const cpu::Kernels& kernels, const TrainKernels& train_kernels, cpu::Element element, int threads)
    : layout_(layout), kernels_(kernels), train_kernels_(train_kernels), pairs_(element == cpu::Element::bf16) {
  const size_t width = kernels.width;
  size_t widest = 0;
  const auto plan = [&](cpu::Panels& panels, float*& data, int n, int k) {
    panels.format = pairs_ ? cpu::Format::bf16_dot : cpu::Format::f32;
    panels.n = n;
    panels.k = k;
    panels.panel_bytes = cpu::panel_size(panels.format, k, kernels.width);
    arena_.array(data, panels.panel_bytes / sizeof(float) * (round_up(n, width) / width));
    widest = std::max(widest, round_up(std::max(n, k), std::max<size_t>(width, 16)));
  };
  panels_.resize(layout.blocks.size() * kProjections);
  for (size_t l = 0; l < layout.blocks.size(); ++l)
    for (int p = 0; p < kProjections; ++p) {
      const LinearAt& at = layout.blocks[l].linear[p];
      Linear& linear = panels_[l * kProjections + p];
      plan(linear.forward, linear.forward_data, at.out, at.in);
      plan(linear.backward, linear.backward_data, at.in, at.out);
      arena_.array(linear.bias, round_up(at.out, width));
    }
  scratch_.resize(threads);
  for (float*& scratch : scratch_) arena_.array(scratch, width * widest);
  no_bias_.assign(widest, 0);
  arena_.place();
  for (Linear& linear : panels_) {
    linear.forward.data = reinterpret_cast<const std::byte*>(linear.forward_data);
    linear.backward.data = reinterpret_cast<const std::byte*>(linear.backward_data);
    linear.forward.bias = linear.bias;
    linear.backward.bias = no_bias_.data();
  }
}

void PackedWeights::pack_forward(const float* weights, const LinearAt& at, Linear& linear, int panel, float* scratch) const {
  const int width = kernels_.width, first = panel * width;
  std::vector<cpu::StoredRow> rows;
  for (int r = first; r < std::min(first + width, at.out); ++r)
    rows.push_back({reinterpret_cast<const std::byte*>(weights + at.weight + static_cast<size_t>(r) * at.in), StoredType::f32});
  cpu::Pack call;
  call.rows = rows.data();
  call.columns = static_cast<int>(rows.size());
  call.k = at.in;
  call.format = linear.forward.format;
  call.panel = reinterpret_cast<std::byte*>(linear.forward_data) + linear.forward.panel_bytes * panel;
  call.scratch = scratch;
  kernels_.pack(call);
  for (int c = first; c < first + width; ++c) linear.bias[c] = c < at.out ? weights[at.bias + c] : 0;
}

void PackedWeights::pack_backward(const float* weights, const LinearAt& at, Linear& linear, int panel) const {
  const int width = kernels_.width, first = panel * width;
  Interleave call;
  call.source.data = reinterpret_cast<std::byte*>(const_cast<float*>(weights + at.weight + first));
  call.source.stride = at.in * sizeof(float);
  call.rows = at.out;
  call.columns = std::min(width, at.in - first);
  call.pairs = pairs_;
  call.panel = reinterpret_cast<std::byte*>(linear.backward_data) + linear.backward.panel_bytes * panel;
  train_kernels_.interleave(call);
}

void PackedWeights::pack(const float* weights, cpu::ThreadPool& pool) {
  struct Task {
    size_t linear;
    int panel;
    bool forward;
  };
  std::vector<Task> tasks;
  for (size_t i = 0; i < panels_.size(); ++i)
    for (const bool forward : {true, false}) {
      const int n = forward ? panels_[i].forward.n : panels_[i].backward.n;
      for (int panel = 0; panel * kernels_.width < n; ++panel) tasks.push_back({i, panel, forward});
    }
  std::atomic<size_t> next{0};
  pool.run(pool.threads(), [&](int worker) {
    for (size_t i; (i = next.fetch_add(1)) < tasks.size();) {
      const auto [linear, panel, forward] = tasks[i];
      const LinearAt& at = layout_.blocks[linear / kProjections].linear[linear % kProjections];
      if (forward) pack_forward(weights, at, panels_[linear], panel, scratch_[worker]);
      else pack_backward(weights, at, panels_[linear], panel);
    }
  });
}

}  // namespace matryoshka::train
