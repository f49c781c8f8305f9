// The gradients of the parameters themselves, cut into tasks that each own what they add to: the same sums in the same
// order with any number of threads.
#pragma once

#include "train/cpu/tile_ops.h"

namespace matryoshka::train {

/// One thread's scratch.
class GradientWorkspace {
 public:
  GradientWorkspace(const cpu::Kernels& kernels, Element element);

  std::byte* panel = nullptr;  ///< kTurnRows rows of one panel
  Rows2d product;              ///< [kProductRows × width] f32
  float* no_bias = nullptr;

  static constexpr int kTurnRows = 1024;  ///< a panel of so many rows stays in a core's cache
  static constexpr int kProductRows = 96;

 private:
  float* panel_floats_ = nullptr;
  Arena arena_;
};

/// Tasks for one layer: panels of every dW, biases, norms. All add to gradients [layout.size].
class LayerGradients {
 public:
  LayerGradients(const Turn& turn, int layer);
  int tasks() const { return static_cast<int>(panels_.size()) + kProjections + 1; }
  void run(int task, GradientWorkspace& workspace, float* gradients) const;

 private:
  struct Panel {
    Projection which;
    int first;  ///< column of dW
  };
  int rows_of(Projection which) const;
  Rows2d input_of(Projection which) const;
  void panel(const Panel& panel, GradientWorkspace& workspace, float* gradients) const;
  void norms(float* gradients) const;

  const Turn& turn_;
  const int layer_;
  std::vector<Panel> panels_;
};

/// Tasks for the embedding tables, by slices of columns, then their norm, then the heads.
int embedding_tasks(const Layout& layout);
void embedding_gradients(const Turn& turn, int task, float* gradients);

/// Adds those of one exit's head.
void head_gradients(const Turn& turn, int exit, float* gradients);

}  // namespace matryoshka::train
