#include "engine/batch.h"

#include "check.h"
#include "engine/queries.h"
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

TEST("queries stand before the pairs, once each: what a pair has up to its separator") {
  TokenBatch batch;  // 9 separates: [1 5 9 6 9] and [1 5 9 7 9] share a query, [1 8 9 9] has its own, [9] is nothing but one
  batch.token_ids = {1, 5, 9, 6, 9, 1, 5, 9, 7, 9, 1, 8, 9, 9, 9};
  batch.type_ids = {0, 2, 0, 3, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0};
  batch.cu_seqlens = {0, 5, 10, 14, 15};
  batch.list_offsets = {0, 3, 4};
  const TokenBatch with = with_queries(batch);
  CHECK_EQ(with.queries, 3);
  CHECK(with.cu_seqlens == std::vector<int32_t>({0, 3, 6, 7, 12, 17, 21, 22}));
  CHECK(std::equal(with.token_ids.begin(), with.token_ids.begin() + 7, std::vector<int32_t>({1, 5, 9, 1, 8, 9, 9}).begin()));
  CHECK(std::equal(with.token_ids.begin() + 7, with.token_ids.end(), batch.token_ids.begin(), batch.token_ids.end()));
  CHECK(std::equal(with.type_ids.begin() + 7, with.type_ids.end(), batch.type_ids.begin(), batch.type_ids.end()));
  for (int t = 0; t < 7; ++t) CHECK_EQ(with.type_ids[t], 0);
  CHECK(with.query_of == std::vector<int32_t>({-1, -1, -1, 0, 0, 1, 2}));
  CHECK(with.list_offsets == std::vector<int32_t>({0, 1, 2, 3, 6, 7}));
}

}  // namespace
}  // namespace matryoshka
