// What lives as long as a turn: the activations the way back needs, and the gradients on their way.
#pragma once

#include <vector>

#include "train/cpu/arena.h"
#include "train/query_heads.h"

namespace matryoshka::train {

/// One layer's activations, [rows × …] by token, or by sequence where the layer runs on scoring rows. Elements are what
/// products take, f32 or bf16.
struct LayerMemory {
  cpu::Rows2d input;      ///< [tokens × H]
  cpu::Rows2d key_value;  ///< [tokens × 2H]
  cpu::Rows2d query, context, attended;  ///< [rows × H]
  cpu::Rows2d mlp;        ///< [rows × F]: before the activation; after it once the way back has passed
  cpu::Rows2d hat[2];     ///< [rows × H] by Site
  float* inverse[2] = {};  ///< [rows]
};

/// Gradients of the outputs of a layer's linears, transposed, [out × rows]: what its weights' gradients are made of.
struct OutputGradients {
  cpu::Rows2d of[kProjections];
};

struct TurnSize {
  int tokens = 0, sequences = 0, tiles = 0;
  bool recompute = false;
  cpu::Element element = cpu::Element::f32;
};

class TurnMemory {
 public:
  /// Throws ERR_OUT_OF_MEMORY. What an earlier turn left is gone.
  void prepare(const Layout& layout, const std::vector<uint8_t>& skipped, const TurnSize& size);

  const TurnSize& size() const { return size_; }
  /// With recomputing, layers share two memories: a layer's weights' gradients are still read while the layer below
  /// goes back, and no longer.
  const LayerMemory& layer(int l) const { return layers_[size_.recompute ? l % 2 : l]; }
  /// The input of layer l: written by the last layer before it that is not skipped.
  const cpu::Rows2d& input(int l) const { return size_.recompute ? layers_[l % 2].input : layers_[input_of_[l]].input; }
  const OutputGradients& output_gradients(int l) const { return output_gradients_[l % 2]; }
  /// Partial sums of a norm's gradients over one tile: weight's [H], then bias's [H]. Zeroed by whoever starts the tile.
  float* norm_partial(int l, Site site, int tile) const {
    return norm_partials_[l % 2] + (static_cast<size_t>(tile) * 2 + static_cast<int>(site)) * 2 * hidden_size_;
  }
  float* embedding_partial(int tile) const { return embedding_partials_ + static_cast<size_t>(tile) * 2 * hidden_size_; }
  /// The scoring row of a sequence at an exit, [H].
  float* exit_row(int exit, int sequence) const { return exit_rows_ + (static_cast<size_t>(exit) * size_.sequences + sequence) * hidden_size_; }
  ExitRows exit_rows() const { return {exit_rows_, size_.sequences, hidden_size_}; }

  cpu::Rows2d hidden, hidden_gradient;    ///< [tokens × H] f32
  cpu::Rows2d scoring, scoring_gradient;  ///< [sequences × H] f32
  cpu::Rows2d scoring_input;              ///< [sequences × H]: `scoring` as products take it
  cpu::Rows2d embedding_hat;              ///< [tokens × H]
  float* embedding_inverse = nullptr;     ///< [tokens]
  std::vector<cpu::Rows2d> kept;          ///< [layers] [tokens × H] f32: inputs, with recomputing

 private:
  TurnSize size_;
  int hidden_size_ = 0;
  std::vector<LayerMemory> layers_;
  std::vector<int> input_of_;
  OutputGradients output_gradients_[2];
  float* norm_partials_[2] = {};
  float* embedding_partials_ = nullptr;
  float* exit_rows_ = nullptr;
  Arena arena_;
};

}  // namespace matryoshka::train
