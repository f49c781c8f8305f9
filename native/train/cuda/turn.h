// What a turn has on a device: its sequences as the kernels read them, the activations that the way back needs, and the
// gradients on their way.
#pragma once

#include <vector>

#include "cuda/device_buffer.h"
#include "cuda/kernels/active_set.cuh"
#include "engine/batch.h"
#include "train/cuda/table_rows.h"
#include "train/parameters.h"

namespace matryoshka::train {

/// A 16-bit element in device memory, which the host never reads.
struct Element16 {
  uint16_t bits;
};

/// Of TableRows.
struct DeviceTableRows {
  int *order, *segments, *rows, *starts;
  int segment_count, row_count;
};

/// All that is uploaded. The same carving lays out the staging memory and the device's.
struct TurnInput {
  struct Lists {
    std::vector<int32_t> tokens, positions, types, cu_seqlens, counts, work;
    TableRows word, position, type;

    Lists(const TokenBatch& batch, int position_offset, int query_block);
  };

  TurnInput(cuda::Carver& carver, const Lists& lists);
  void write(const Lists& lists) const;
  cuda::ActiveSetView active() const { return {counts, nullptr, cu_seqlens, nullptr, nullptr, work}; }

  int *tokens, *positions, *types;  ///< [T] rows of the tables
  int *cu_seqlens, *counts, *work;
  DeviceTableRows word, position, type;
};

/// One layer's activations; rows are tokens, or sequences where the layer runs on scoring rows.
struct DeviceLayer {
  Element16 *input, *key_value;                                ///< [T × H], [T × 2H]
  Element16 *query, *context, *attended, *hat[2];  ///< [rows × H]
  Element16 *mlp, *activated;                                  ///< [rows × F]
  float* inverse[2];                                           ///< [rows]
};

struct TurnActivations {
  TurnActivations(cuda::Carver& carver, const Layout& layout, int tokens, int sequences);

  std::vector<DeviceLayer> layers;
  float *hidden, *hidden_gradient;      ///< [T × H]: the residual stream
  float *scoring, *scoring_gradient;    ///< [n × H]: of the last layer
  Element16* scoring_input;             ///< [n × H]
  Element16* embedding_hat;             ///< [T × H]
  float* embedding_inverse;             ///< [T]
  float *exit_rows, *exit_gradients;    ///< [exits × n × H]
  float* branch;                        ///< [T × H]: what is about to be added to hidden
  Element16 *branch_gradient, *context_gradient, *query_gradient;  ///< [T × H]
  Element16 *key_value_gradient, *mlp_gradient;                    ///< [T × 2H], [T × F]
  float *attention_sums, *attention_deltas;                        ///< [T × heads]
  float* partial;  ///< sums that are not yet whole: of a weight's splits, or of segments of rows

  /// Tokens that one split of a weight's gradient sums; a whole number of steps of its kernel.
  static constexpr int kSplit = 2048;
  /// Rows that one round of the sums for biases and norms makes one of.
  static constexpr int kSegment = 64;
  static int segments(int rows) { return (rows + kSegment - 1) / kSegment; }
};

}  // namespace matryoshka::train
