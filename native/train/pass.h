// The way forth and back through a post-norm encoder with an exit at any layer, written once over its ops.
//
// The last layer is run for keys and values of every token, and for the scoring row ([CLS]) of each sequence alone
// otherwise: nothing else of it is ever read.
#pragma once

#include <cstdint>
#include <vector>

#include "train/parameters.h"

namespace matryoshka::train {

/// The ops of some whole sequences. What goes forth remembers what its way back needs. `hidden` is the residual stream;
/// in the last layer, once gathered, it is the scoring rows. Matrices by layer:
///   input --query, key_value--> attention --> context --output--> + input, norm = attended --up--> mlp, activated
///   --down--> + attended, norm = the next layer's input
class TrainOps {
 public:
  virtual ~TrainOps() = default;

  virtual void embed() = 0;
  virtual void linear(int layer, Projection which) = 0;
  virtual void gather() = 0;  ///< hidden <- its scoring rows
  virtual void attention(int layer) = 0;
  virtual void residual(int layer, Site site) = 0;
  virtual void activate(int layer) = 0;
  virtual void head(int exit) = 0;

  /// The gradient of hidden <- 0, and of the scoring rows.
  virtual void begin_backward() = 0;
  virtual void head_backward(int exit) = 0;  ///< gradient of hidden += dlogit w
  virtual void activate_backward(int layer) = 0;
  virtual void residual_backward(int layer, Site site) = 0;  ///< gradient of the sum: hidden's own, and the branch's
  virtual void attention_backward(int layer) = 0;
  virtual void scatter() = 0;  ///< gradient of hidden += that of its scoring rows
  /// query, key_value and up: gradient of hidden += Wᵀ dy; else the gradient of the linear's input <- Wᵀ dy.
  virtual void linear_backward(int layer, Projection which) = 0;
  virtual void embed_backward() = 0;
};

/// skipped [layers]: 1 where the layer is left out of this turn (layer dropout).
void forward_layer(TrainOps& ops, const Layout& layout, const std::vector<uint8_t>& skipped, int layer);
/// The same without the heads, to have again what the way back needs.
void repeat_layer(TrainOps& ops, const Layout& layout, const std::vector<uint8_t>& skipped, int layer);
void backward_layer(TrainOps& ops, const Layout& layout, const std::vector<uint8_t>& skipped, int layer);

}  // namespace matryoshka::train
