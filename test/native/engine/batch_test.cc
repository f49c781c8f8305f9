#include "engine/batch.h"

#include "check.h"
#include "random_model.h"

namespace matryoshka {
namespace {

struct Fixture {
  check::Shape shape;
  Architecture architecture = check::RandomModel(shape, 1).checkpoint()->architecture();
  std::mt19937 random{3};
  TokenBatch batch = check::random_batch(random, shape, {2, 3}, 9);
};

TEST("a batch that keeps its invariants is taken") {
  Fixture f;
  validate(f.batch, f.architecture);
  f.batch.type_ids.clear();
  validate(f.batch, f.architecture);
}

TEST("offsets that do not start at 0, ascend, and end at the tokens are refused") {
  Fixture f;
  for (const std::vector<int32_t>& offsets : {std::vector<int32_t>{}, {1, 2}, {0, 2, 2, f.batch.tokens()}, {0, f.batch.tokens() + 1}}) {
    f.batch.cu_seqlens = offsets;
    CHECK_THROWS_CODE(validate(f.batch, f.architecture), "ERR_INVALID_ARGUMENT");
  }
}

TEST("an id outside its table is refused") {
  for (const int32_t id : {-1, 50}) {
    Fixture f;
    f.batch.token_ids[3] = id;
    CHECK_THROWS(validate(f.batch, f.architecture), "ERR_INVALID_ARGUMENT", "entry 3");
  }
  Fixture f;
  f.batch.type_ids[0] = 2;
  CHECK_THROWS(validate(f.batch, f.architecture), "ERR_INVALID_ARGUMENT", "typeIds");
}

TEST("a sequence longer than the position table is refused") {
  Fixture f;
  f.batch.token_ids.assign(41, 1);
  f.batch.type_ids.clear();
  f.batch.cu_seqlens = {0, 41};
  f.batch.list_offsets = {0, 1};
  CHECK_THROWS_CODE(validate(f.batch, f.architecture), "ERR_INPUT_TOO_LONG");
}

}  // namespace
}  // namespace matryoshka
