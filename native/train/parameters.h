// What is trained, as one flat array of numbers: where each weight lies in it, what it is called, how it is treated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/checkpoint.h"

namespace matryoshka::train {

/// One tensor of the checkpoint. `name` is its name on disk, heads': "exit.L.weight", "exit.L.bias" and "exit.L.query.weight".
struct Parameter {
  std::string name;
  std::vector<int64_t> shape;
  size_t offset = 0, count = 0;
  bool decays = false;  ///< a matrix, not a bias or a norm
  bool head = false;    ///< belongs to an exit's head: stored apart, in F32
  bool fast = false;    ///< learns at the heads' rate: what starts from nothing
};

/// weight [out, in] row-major, bias [out]; stacked sources (key over value) are one matrix.
struct LinearAt {
  size_t weight = 0, bias = 0;
  int out = 0, in = 0;
};

struct NormAt {
  size_t weight = 0, bias = 0;  ///< [H] each
};

/// Offsets are in numbers, into any array of `size`: weights, gradients, moments, in float or double.
struct Layout {
  struct Block {
    LinearAt linear[kProjections];
    NormAt norm[2];
  };
  struct Head {
    size_t weight = 0, bias = 0;  ///< [H], [1]
    size_t query = 0;             ///< [H, H], of HeadKind::query
    double carry = 0;             ///< HeadSource's
  };

  Architecture architecture;  ///< of the model in training: token_types may be more than the checkpoint's
  std::vector<int> exit_layers;
  size_t word = 0, position = 0, type = 0;
  NormAt embedding_norm;
  std::vector<Block> blocks;
  std::vector<Head> heads;  ///< by index into exit_layers
  std::vector<Parameter> parameters;
  size_t size = 0;

  const LinearAt& linear(int layer, Projection which) const { return blocks[layer].linear[static_cast<int>(which)]; }
  const NormAt& norm(int layer, Site site) const { return blocks[layer].norm[static_cast<int>(site)]; }
  /// Index of the exit after block `layer`, or -1.
  int exit_after(int layer) const;
};

struct InitialModel {
  Layout layout;
  std::vector<float> weights;
};

struct InitialOptions {
  std::vector<int> exit_layers;  ///< empty: the checkpoint's, or every layer where it has no linear heads
  std::optional<HeadKind> head;  ///< linear or query; without it the checkpoint's, or linear
  std::vector<double> carry;     ///< HeadSource's, one for each exit; empty: none, whatever the checkpoint has
  int type_rows = 0;             ///< 0: as many as the checkpoint has
  uint64_t seed = 0;
};

/// Reads any supported encoder. Heads it has not are drawn from N(0, 0.02); new rows of the type table are copies: 2 of 1,
/// 3 of 0, and so on. A query-conditioned head that it has not begins as the encoder's own opinion as a bi-encoder: M = c I,
/// with which the last layer's logits are about cosine / 0.03, and a twentieth of that before, where no encoder was ever
/// taught to compare. Throws what Checkpoint::open_encoder throws, ERR_TENSOR_NOT_FINITE and ERR_INVALID_ARGUMENT.
InitialModel read_initial_model(const std::string& directory, const InitialOptions& options);

}  // namespace matryoshka::train
