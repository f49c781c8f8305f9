// What the scores of all exits should have been, and the gradient of every logit; in double, because it costs nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/batch.h"

namespace matryoshka::train {

struct TeacherLoss {
  double weight = 0;
  double temperature = 1;  ///< of the teacher's scores
  double soften = 1;       ///< σ: both distributions at this many times their temperature, the part times σ²
};

enum class Direction : uint8_t { forward, reverse };

/// loss = mean over lists of Σ exits weight (rank R + binary B + Σ teachers weight σ² T + distill τ² D), D not for the last
/// exit. NativeLoss of lib/native-trainer.ts says what each part is.
struct LossConfig {
  std::vector<double> exit_weights;  ///< [exits]
  double rank = 0, binary = 0;
  std::vector<TeacherLoss> teachers;
  double distill = 0;
  double temperature = 1;
  Direction direction = Direction::forward;
  /// [exits] index of the exit that each learns from, deeper than itself; -1 for the last.
  std::vector<int> teacher_of;
};

/// The nearest deeper anchor of each of `exits` exits; the last is always one. `anchors` are exit indices.
std::vector<int> nearest_anchors(int exits, const std::vector<int>& anchors);

struct Targets {
  std::vector<float> labels;                 ///< [n] in [0, 1], NaN: unlabelled
  std::vector<std::vector<float>> teachers;  ///< [teachers][n], NaN: no score
};

/// Throws ERR_INVALID_ARGUMENT.
void validate(const LossConfig& config, int exits);
void validate(const Targets& targets, const LossConfig& config, int sequences);

struct ExitLoss {
  double rank = 0, binary = 0, distill = 0;
  std::vector<double> teachers;
};

struct LossValue {
  double total = 0;
  std::vector<ExitLoss> exits;  ///< the parts, unweighted
};

/// Sums over lists [first, last) of the batch, each list counting 1 / `lists`; logits and gradients are those of these
/// lists' sequences, [n' × exits]. Adds to `value`; overwrites `gradients`.
void add_losses(const LossConfig& config, const Targets& targets, const std::vector<int32_t>& list_offsets, int first, int last, int lists,
                const std::vector<double>& logits, LossValue& value, std::vector<double>& gradients);

}  // namespace matryoshka::train
