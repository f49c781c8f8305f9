// A checkpoint on disk (a Hugging Face directory, plus matryoshka.json and matryoshka.safetensors where it is
// layer-wise) as an Architecture and its tensors by role.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "model/tensor.h"

namespace matryoshka {

/// The matrices of a block. `key_value` is the key projection with the value projection stacked below it.
enum class Projection : uint8_t { query, key_value, output, up, down };
constexpr int kProjections = 5;

/// The two residual connections of a block, each followed by a layer norm: hidden = norm(hidden + branch).
enum class Site : uint8_t { attention, mlp };

/// y = W x + b. Row blocks stacked from one or more tensors, each weight [out_i, in] and bias [out_i].
struct LinearSource {
  std::vector<const Tensor*> weights;
  std::vector<const Tensor*> biases;
  int out = 0;
  int in = 0;
};

struct NormSource {
  const Tensor* weight = nullptr;  ///< [H]
  const Tensor* bias = nullptr;    ///< [H]
};

struct EmbeddingSource {
  const Tensor* word = nullptr;      ///< [vocab, H]
  const Tensor* position = nullptr;  ///< [positions, H]
  const Tensor* type = nullptr;      ///< [token_types, H]
  NormSource norm;
};

/// dense_* are null for all but HeadKind::dense_tanh_linear, query for all but HeadKind::query.
struct HeadSource {
  const Tensor* dense_weight = nullptr;  ///< [H, H]
  const Tensor* dense_bias = nullptr;    ///< [H]
  const Tensor* weight = nullptr;        ///< [1, H]
  const Tensor* bias = nullptr;          ///< [1]
  const Tensor* query = nullptr;         ///< M [H, H]
  double carry = 0;  ///< share c of the logit of the exit before: the exit's own is (1 - c) · head + c · that, below 1 and 0 at the first exit
};

/// What an exit says of the final score beyond its own logit s, from its scoring row h:
///   z = tanh(hidden_weight h + hidden_bias),  estimate = o_0 · [z, s] + c_0,  log unit = o_1 · [z, s] + c_1
/// with o, c the rows of output_weight and output_bias. Without hidden units z is empty and the hidden tensors are null.
struct CompensationSource {
  const Tensor* hidden_weight = nullptr;  ///< [M, H]
  const Tensor* hidden_bias = nullptr;    ///< [M]
  const Tensor* output_weight = nullptr;  ///< [2, M + 1]
  const Tensor* output_bias = nullptr;    ///< [2]
};

class Checkpoint {
 public:
  /// Maps and validates everything but the values: config, tensor names, shapes, dtypes, file bounds.
  /// Throws Error: ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_FILE, ERR_CONFIG_INVALID, ERR_UNSUPPORTED_ARCHITECTURE,
  /// ERR_SAFETENSORS_INVALID, ERR_TENSOR_MISSING, ERR_TENSOR_SHAPE, ERR_TENSOR_DTYPE.
  static std::shared_ptr<const Checkpoint> open(const std::string& directory);
  /// The same, for training, of an encoder that needs no head: where there are no exit layers on disk, exit_layers() is
  /// empty, there is no head(), and a classification head is not looked at.
  static std::shared_ptr<const Checkpoint> open_encoder(const std::string& directory);
  ~Checkpoint();

  const Architecture& architecture() const;
  /// Layers that can score, ascending, 1-based: l means "after l blocks". The last one is the full depth.
  const std::vector<int>& exit_layers() const;
  EmbeddingSource embedding() const;
  LinearSource linear(int layer, Projection which) const;  ///< layer in [0, layers)
  NormSource norm(int layer, Site site) const;
  HeadSource head(int exit) const;  ///< exit: index into exit_layers()
  /// Whether every exit but the last has a compensation.
  bool compensated() const;
  CompensationSource compensation(int exit) const;  ///< where compensated(), of any exit but the last

  /// Scans every tensor once; throws ERR_TENSOR_NOT_FINITE naming the first that holds a NaN or an infinity.
  void check_finite() const;
  /// Tells the system that the mapped pages are no longer needed resident (they are re-read if touched again).
  void release_pages() const;
  /// All tensors, by name, for inspection.
  std::vector<const Tensor*> tensors() const;
  size_t file_bytes() const;  ///< total size of the mapped weight files
  size_t parameters() const;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  static std::shared_ptr<const Checkpoint> open(const std::string& directory, bool needs_head);
  std::unique_ptr<State> state_;
};

}  // namespace matryoshka
