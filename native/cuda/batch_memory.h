// Where a batch lives on the device: what was uploaded, the activations, the two active sets, and the results.
#pragma once

#include "cuda/device_buffer.h"
#include "cuda/element_type.h"
#include "cuda/kernels/active_set.cuh"
#include "cuda/padded_shape.h"
#include "engine/batch.h"

namespace matryoshka::cuda {

/// As many as a list can have documents: no further rank is ever taken.
constexpr int kMostDiscounts = 1024;

/// Sizes that the host knows before anything runs; the device's own sizes only shrink from here.
struct BatchSizes {
  int sequences = 0, tokens = 0, lists = 0, work_items = 0, exits = 0;
  bool compensated = false;

  /// Sizes that hold this batch and those before it, with room: what memory is laid out for. Batches of one layout have
  /// the same addresses everywhere, and so the same launches.
  BatchSizes roomier(const BatchSizes& before) const;
  static BatchSizes of(const TokenBatch& batch, int exits, bool compensated, int query_block);
};

/// What the host writes, in one block that is uploaded at once: it looks the same on both sides.
struct BatchInput {
  int *tokens, *positions, *types;  ///< [tokens]
  ActiveSetView active;
  int* list_offsets;                ///< [lists + 1] into all sequences: the active set's are rewritten
  int* queries;                     ///< [1] how many of the first sequences are queries
  int* query_of;                    ///< [sequences] the query that each goes with, -1 for a query; written where there are any
  float* difficulty;                ///< [sequences], written where a rule reads it
  float* discounts;                 ///< [kMostDiscounts], written where a rule reads them

  BatchInput(Carver& carver, const BatchSizes& sizes);
};
/// Fills staging memory but for what rules read: everybody is active.
void write(const BatchInput& staging, const TokenBatch& batch, int position_offset, int query_block);

/// What the host reads, in one block that is downloaded at once.
struct BatchResults {
  float* logits;               ///< [sequences, exits]
  float *estimates, *units;    ///< [sequences, exits] each; null where the model has no compensations
  unsigned char* exit_layers;  ///< [sequences]
  BatchResults(Carver& carver, const BatchSizes& sizes);
};

/// Device memory only.
struct BatchActivations {
  void* hidden[2];                           ///< [tokens, hidden]: one is current, the other where compaction leads
  void *key_value;                           ///< [tokens, 2 · attention]
  void *query, *context;                     ///< [tokens, attention]
  void *branch, *mlp;                        ///< [tokens, hidden], [tokens, intermediate]
  void *scoring, *pooled;                    ///< [sequences, hidden]
  ActiveSetView other;                       ///< the set that the first compaction writes
  int* row_map;                              ///< [tokens]
  float *low, *high;                         ///< [sequences]
  double* terms;                             ///< [sequences]
  double *place, *span, *gain, *level;       ///< [sequences] each, and [lists]
  int* rank;                                 ///< [sequences]
  unsigned char* stop;                       ///< [sequences]
  int* slots;                                ///< [sequences + 1]

  BatchActivations(Carver& carver, const BatchSizes& sizes, const PaddedShape& shape, ElementType type);
};

}  // namespace matryoshka::cuda
