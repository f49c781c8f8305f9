// What an exit says of the final score beyond its own logit: a small network on the scoring row, the same on every backend.
//
// It reads this exit's state and logit only, so what it says does not depend on which other exits a rule looks at; how
// far the estimate moved since the rule's previous exit enters through ExitHead::trend.
#pragma once

#include <vector>

#include "engine/batch.h"
#include "model/checkpoint.h"

namespace matryoshka {

class Compensation {
 public:
  explicit Compensation(const CompensationSource& source);
  /// Of every exit but the last; empty where the checkpoint has none.
  static std::vector<Compensation> all(const Checkpoint& checkpoint);

  struct Estimate {
    float score = 0;
    float unit = 1;  ///< in [e^-6, e^6]
  };
  /// state [H]: float or double. Sums are in double, in one order.
  template <class T>
  Estimate operator()(const T* state, float logit) const;

 private:
  int hidden_ = 0, units_ = 0;
  std::vector<float> weight_;  ///< [H, M]: transposed, so that a row of states updates all units at once
  std::vector<float> bias_, output_;
  float output_bias_[2] = {};
};

/// Writes what exit `exit` found of `sequence` into `scores`: its head's `score`, of whose logit a share `carry` is the one
/// of the exit before (HeadSource), which must be there. `all` is of Compensation::all.
template <class T>
void put_score(Scores& scores, const std::vector<Compensation>& all, int sequence, int exit, const T* state, int hidden, float score, float carry);

}  // namespace matryoshka
