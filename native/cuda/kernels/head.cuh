// logits[sequence, exit] = weight · row + bias, a share of the exit before in it, and what the exit's compensation makes of
// that; a warp a sequence.
#pragma once

#include "cuda/kernels/active_set.cuh"
#include "cuda/kernels/row.cuh"

namespace matryoshka::cuda {

/// engine/compensation.h on the device. Without hidden units, affine in the logit.
struct CompensationArgs {
  const void* hidden_weight;  ///< [units, stride] elements
  const float* hidden_bias;   ///< [units]
  const float* output;        ///< [2, units + 1], the last column the logit's
  float output_bias[2];
  int units;
};

struct HeadArgs {
  ActiveSetView active;
  const void* rows;     ///< `stride` elements a row
  bool token_rows;      ///< a sequence's row is its first token's; else row s belongs to sequence s
  const int* query_of;  ///< [n] by sequence of the batch: the row of `weight` it takes, -1 for none; null: all take the first
  const void* weight;   ///< [queries, stride]
  float bias;
  float carry;          ///< share of the logit of the exit before, which must be there; 0 at the first
  float* logits;        ///< [n, exits] by sequence of the batch
  int stride, exits, exit;
  float *estimates, *units;       ///< [n, exits] likewise; null where the model has no compensations
  CompensationArgs compensation;
};

constexpr float kLargestLogUnit = 6;
constexpr float kNoScore = __builtin_nanf("");

template <class E, int kWidth>
KERNEL(kRowThreads, 1)
head(HeadArgs args) {
  const int sequences = load(args.active.counts + kSequences);
  for (int s = first_row(); s < sequences; s += row_step()) {
    Row<E, kWidth> row(args.stride);
    row.add(row_of<E>(args.rows, args.token_rows ? load(args.active.cu_seqlens + s) : s, args.stride));
    const int sequence = load(args.active.sequences + s), query = args.query_of ? load(args.query_of + sequence) : 0;
    const size_t at = static_cast<size_t>(sequence) * args.exits + args.exit;
    if (query < 0) {  // a query itself: no rule stops what has no score
      if (thread_index() % 32 == 0) {
        store(args.logits + at, kNoScore);
        if (args.estimates) store(args.estimates + at, kNoScore);
      }
      continue;
    }
    const float score = row.dot(row_of<E>(args.weight, query, args.stride)) + args.bias;
    const float logit = args.carry > 0 ? add_exact(mul_exact(1 - args.carry, score), mul_exact(args.carry, load(args.logits + at - 1))) : score;
    if (thread_index() % 32 == 0) store(args.logits + at, logit);
    if (!args.estimates) continue;
    const CompensationArgs& c = args.compensation;
    float estimate = c.output_bias[0] + load(c.output + c.units) * logit, log_unit = c.output_bias[1] + load(c.output + 2 * c.units + 1) * logit;
    for (int m = 0; m < c.units; ++m) {
      const float z = tanhf(row.dot(row_of<E>(c.hidden_weight, m, args.stride)) + load(c.hidden_bias + m));
      estimate += load(c.output + m) * z;
      log_unit += load(c.output + c.units + 1 + m) * z;
    }
    if (thread_index() % 32 == 0) {
      store(args.estimates + at, estimate);
      store(args.units + at, expf(fminf(fmaxf(log_unit, -kLargestLogUnit), kLargestLogUnit)));
    }
  }
}

}  // namespace matryoshka::cuda
