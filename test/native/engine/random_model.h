// Random layer-wise models and batches of any size, for tests of the whole pass.
#pragma once

#include <memory>
#include <random>

#include "engine/batch.h"
#include "model/checkpoint.h"
#include "tiny_checkpoint.h"

namespace matryoshka::check {

struct Shape {
  int layers = 5, hidden = 24, heads = 3, intermediate = 40, vocab = 50, positions = 40;
  int compensation = -1;  ///< hidden units of every exit's but the last; -1 for none
  bool query_heads = false;  ///< conditioned on the query
  float carry = 0;           ///< every exit's but the first: HeadSource
};

/// A layer-wise BERT with an exit after every layer, its files kept as long as it lives.
class RandomModel {
 public:
  RandomModel(const Shape& shape, uint32_t seed);
  std::shared_ptr<const Checkpoint> checkpoint() const { return checkpoint_; }
  std::string path() const { return directory_.path(); }

 private:
  tiny::Directory directory_;
  std::shared_ptr<const Checkpoint> checkpoint_;
};

/// The same with heads conditioned on the query.
inline Shape conditioned(Shape shape) {
  shape.query_heads = true;
  return shape;
}

/// The same with shares of the exit before in every logit but the first exit's.
inline Shape carrying(Shape shape) {
  shape.carry = 0.375f;
  return shape;
}

/// Lists of the given sizes; lengths uniform in [1, longest].
TokenBatch random_batch(std::mt19937& random, const Shape& shape, const std::vector<int>& lists, int longest);

}  // namespace matryoshka::check
