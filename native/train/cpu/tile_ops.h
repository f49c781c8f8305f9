// The ops of one tile, forth and back, on one thread.
#pragma once

#include "cpu/tiles.h"
#include "engine/batch.h"
#include "train/cpu/packed_weights.h"
#include "train/cpu/turn_memory.h"
#include "train/pass.h"
#include "train/query_heads.h"

namespace matryoshka::train {

/// What a turn's tiles share.
struct Turn {
  const Layout* layout = nullptr;
  const float* weights = nullptr;
  const cpu::Kernels* kernels = nullptr;
  const TrainKernels* train_kernels = nullptr;
  const PackedWeights* packed = nullptr;
  const TokenBatch* batch = nullptr;
  std::vector<uint8_t> skipped;
  std::vector<cpu::Tile> tiles;
  TurnMemory memory;
  QueryHeads query_heads;  ///< of HeadKind::query
  std::vector<double> logits, logit_gradients;  ///< [n × exits]
};

/// One thread's matrices for the tile in hand.
class TileWorkspace {
 public:
  void prepare(const Layout& layout, cpu::Element element, int rows, size_t attention_bytes);

  cpu::Rows2d branch;      ///< [rows × H] f32: what is about to be added to hidden, or to its gradient
  cpu::Rows2d activated;   ///< [rows × F]
  cpu::Rows2d branch_gradient, context_gradient, query_gradient;  ///< [rows × H]
  cpu::Rows2d key_value_gradient;                                 ///< [rows × 2H]
  cpu::Rows2d mlp_gradient;                                       ///< [rows × F]
  std::byte* attention = nullptr;

 private:
  float* attention_floats_ = nullptr;
  Arena arena_;
};

class TileOps final : public TrainOps {
 public:
  TileOps(Turn& turn, TileWorkspace& workspace, int tile) : turn_(turn), layout_(*turn.layout), a_(layout_.architecture), workspace_(workspace), index_(tile), tile_(turn.tiles[tile]) {}

  /// With recomputing: keeps hidden as the layer's input, or takes it back from there.
  void enter(int layer);
  void enter_again(int layer);
  void clear_norm_partials(int layer);

  void embed() override;
  void linear(int layer, Projection which) override;
  void gather() override;
  void attention(int layer) override;
  void residual(int layer, Site site) override;
  void activate(int layer) override;
  void head(int exit) override;
  void begin_backward() override;
  void head_backward(int exit) override;
  void activate_backward(int layer) override;
  void residual_backward(int layer, Site site) override;
  void attention_backward(int layer) override;
  void scatter() override;
  void linear_backward(int layer, Projection which) override;
  void embed_backward() override;

 private:
  bool is_last(int layer) const { return layer + 1 == a_.layers; }
  int first_token() const { return turn_.batch->cu_seqlens[tile_.first]; }
  int token_count() const { return turn_.batch->cu_seqlens[tile_.last] - first_token(); }
  /// Rows of the tile: tokens, or scoring rows in the last layer.
  int first_row(int layer) const { return is_last(layer) ? tile_.first : first_token(); }
  int row_count(int layer) const { return is_last(layer) ? tile_.last - tile_.first : token_count(); }
  cpu::Rows2d hidden(int layer) const;
  cpu::Rows2d hidden_gradient(int layer) const;
  cpu::Rows2d tile_rows(const cpu::Rows2d& m, int layer) const;
  cpu::Rows2d tile_tokens(const cpu::Rows2d& m) const;
  void multiply(int rows, const cpu::Rows2d& input, const cpu::Panels& weight, const cpu::Rows2d& output) const;
  float* exit_hidden(int exit, int sequence, bool gradient) const;
  template <class Body>
  void each_sequence(int layer, const Body& body) const;

  Turn& turn_;
  const Layout& layout_;
  const Architecture& a_;
  TileWorkspace& workspace_;
  const int index_;
  const cpu::Tile tile_;
};

}  // namespace matryoshka::train
