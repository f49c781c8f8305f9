// The contract between the forward pass and the hardware: a small set of fused ops with one signature each, over
// buffers and sizes that live with the backend.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "engine/batch.h"
#include "engine/exit_plan.h"
#include "model/checkpoint.h"

namespace matryoshka {

/// Activations, addressed by role. `hidden` is the residual stream [rows × H]; `key_value` is [tokens × 2H], keys
/// first; `query`, `context`, `branch` are [rows × H]; `mlp` is [rows × F]. Only `hidden` and `key_value` outlive a
/// call of Backend::run.
enum class Slot : uint8_t { hidden, query, key_value, context, branch, mlp };

/// What a tile's rows are: every token of its sequences, or the one scoring row ([CLS]) of each.
enum class Rows : uint8_t { tokens, scoring };

/// The ops of one tile: a set of whole sequences that one thread, or one stream, carries through the pass.
/// Every row's result is bitwise independent of the tile, the batch, the thread count, and of Rows.
class Ops {
 public:
  virtual ~Ops() = default;
  virtual void embed() = 0;                                                ///< hidden <- norm(word + position + type)
  virtual void gather() = 0;                                               ///< scoring tiles: hidden <- the tokens' scoring rows
  virtual void linear(int layer, Projection which, Slot in, Slot out) = 0;  ///< out <- W in + b; Projection::up also activates
  virtual void attention() = 0;                                            ///< context <- softmax(query keysᵀ / sqrt(d)) values, per sequence and head
  virtual void residual(int layer, Site site) = 0;                         ///< hidden <- norm(hidden + branch)
  virtual void head(int exit) = 0;                                         ///< logits[sequence, exit] <- head(scoring row of hidden)
};

class Backend {
 public:
  virtual ~Backend() = default;

  /// How many batches may be submitted and not yet finished: a device computes one while the host prepares the next.
  virtual size_t capacity() const { return 1; }
  /// Takes a batch in, which all calls up to the next begin are about: every sequence is active, nothing is scored. One
  /// that was begun and not submitted is forgotten. `states`: whether scores come with their rows. Throws
  /// ERR_OUT_OF_MEMORY, and ERR_UNSUPPORTED_DEVICE where it cannot do that; stays usable, and batches under way go on.
  virtual void begin(const TokenBatch& batch, int exits, bool states) = 0;
  /// Calls `body(ops, step)` for step = 0 … steps-1 in order on every tile of the active set. Tiles are independent;
  /// no tile starts a later call of run before every tile has finished this one. `body` must be thread-safe.
  virtual void run(Rows rows, int steps, const std::function<void(Ops&, int)>& body) = 0;
  /// Applies `rule` to the scores of exit index `exit`: whoever stops is scored for good, leaves the active set, and its
  /// rows are squeezed out of hidden and key_value.
  virtual void decide(const ExitRule& rule, int exit) = 0;
  /// All has been said of the batch: whoever only wrote it down starts it. If this throws, the batch is forgotten.
  virtual void submit() {}
  /// The one synchronisation of a batch, the oldest under way: fills its logits and the exit layers of those that stopped
  /// (0: still active). Whether or not it throws, that batch is over.
  virtual void finish(Scores& scores) = 0;

  /// "cpu f32 avx512 2 threads": for inspect and doctor.
  virtual std::string describe() const = 0;
};

}  // namespace matryoshka
