// The pass on the CPU: its gradients near the oracle's in each precision, the same bits with any number of threads.
#include "train/cpu/cpu_train_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/cpu_backend.h"
#include "gradients.h"
#include "train/cpu/arena.h"

using namespace matryoshka;
using namespace matryoshka::check;
using namespace matryoshka::train;

namespace {

/// Heads narrower and wider than a vector; sizes that are no whole number of vectors, panels or pairs; a sequence that
/// no tile holds.
const std::vector<Shape> kShapes = {{3, 24, 3, 40, 50, 40}, {2, 35, 5, 67, 50, 40}, {1, 128, 2, 72, 50, 40}, {1, 16, 2, 12, 20, 200}, {1, 9, 1, 5, 20, 40}, {1, 20, 4, 12, 20, 40},
                                   {3, 24, 3, 40, 50, 40, -1, true}, {1, 35, 5, 67, 50, 40, -1, true}};

Result run(const Case& c, const CpuTrainOptions& options) {
  CpuTrainBackend backend(c.model.layout, options);
  return run(c, backend);
}

void check_near(const Case& c, const CpuTrainOptions& options, const Pass& oracle, const Pass& honest, double unit) {
  check_near(c, options.isa + (options.bf16 ? " bf16" : " f32"), run(c, options), oracle, honest, unit);
}

}  // namespace

TEST("every gradient is near the oracle's, in f32 and in bf16, on every instruction set") {
  for (const Shape& shape : kShapes) {
    const Case c(shape, 11);
    const Pass oracle(c), honest(c, to_float), honest_bf16(c, to_bf16);
    for (const std::string& isa : cpu_isas()) {
      check_near(c, {2, false, isa, false}, oracle, honest, 2e-6);
      check_near(c, {2, true, isa, false}, oracle, honest_bf16, 1e-3);
    }
  }
}

TEST("… with each activation and with layers skipped") {
  for (const Activation activation : {Activation::gelu_tanh, Activation::relu}) {
    Case c(kShapes[0], 3);
    c.model.layout.architecture.activation = activation;
    check_near(c, {2, false, "", false}, Pass(c), Pass(c, to_float), 2e-6);
  }
  for (const std::vector<uint8_t>& skipped : {std::vector<uint8_t>{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {0, 1, 1}, {1, 1, 0}, {1, 1, 1}}) {
    Case c(kShapes[0], 3);
    c.skipped = skipped;
    const Pass oracle(c), honest(c, to_float);
    for (const bool recompute : {false, true}) check_near(c, {2, false, "", recompute}, oracle, honest, 2e-6);
  }
}

TEST("the bits are the same with any number of threads, and with activations recomputed") {
  for (const Shape& shape : kShapes) {
    const Case c(shape, 5);
    for (const bool bf16 : {false, true}) {
      const Result one = run(c, {1, bf16, "", false});
      for (const CpuTrainOptions& options : {CpuTrainOptions{2, bf16, "", false}, {5, bf16, "", false}, {1, bf16, "", true}, {3, bf16, "", true}}) {
        const Result other = run(c, options);
        CHECK(one.logits == other.logits);
        for (const Parameter& p : c.model.layout.parameters)
          if (std::memcmp(&one.gradients[p.offset], &other.gradients[p.offset], p.count * sizeof(float)) != 0)
            fail(__FILE__, __LINE__, p.name + " differs, hidden " + std::to_string(shape.hidden) + ", threads " + std::to_string(options.threads) + (options.recompute ? ", recomputed" : ""));
      }
    }
  }
}

TEST("the heads' gradients are the same without the encoder's") {
  for (const Shape& shape : kShapes) {
    const Case c(shape, 9);
    for (const bool bf16 : {false, true})
      for (const bool recompute : {false, true}) {
        CpuTrainBackend backend(c.model.layout, {2, bf16, "", recompute});
        check_heads_alone(c, backend);
      }
  }
}

TEST("the element behind a row of bf16 is zero, whatever was in its memory before") {
  // 20 and 40: queries, and keys with values, of 4 heads of 5; products take pairs, so the last head's last pair reads one element more.
  for (const int columns : {20, 40, 7, 1}) {
    Arena arena;
    cpu::Rows2d rows;
    arena.matrix(rows, 3, columns, cpu::Element::bf16);
    arena.place();
    std::memset(rows.data, 0xff, rows.stride * 3);
    arena.place();
    for (int r = 0; r < 3; ++r) {
      uint16_t behind;
      std::memcpy(&behind, rows.row(r) + columns * 2, 2);
      CHECK_EQ(int{behind}, 0);
    }
  }
}

TEST("gradients of a batch are the sum of its lists', and a backend takes batches of any size after each other") {
  const Case c(kShapes[0], 8);
  CpuTrainBackend backend(c.model.layout, {2, false, "", false});
  backend.set_weights(c.model.weights.data());
  const Result whole = run(c, {1, false, "", false});
  std::vector<float> sum(c.model.layout.size);
  const int exits = static_cast<int>(c.model.layout.heads.size());
  for (int list = 0; list < c.batch.lists(); ++list) {
    TokenBatch one;
    std::vector<double> direction;
    one.cu_seqlens = {0};
    for (int s = c.batch.list_offsets[list]; s < c.batch.list_offsets[list + 1]; ++s) {
      for (int t = c.batch.cu_seqlens[s]; t < c.batch.cu_seqlens[s + 1]; ++t) {
        one.token_ids.push_back(c.batch.token_ids[t]);
        one.type_ids.push_back(c.batch.type_ids[t]);
      }
      one.cu_seqlens.push_back(static_cast<int32_t>(one.token_ids.size()));
      direction.insert(direction.end(), &c.direction[s * exits], &c.direction[s * exits] + exits);
    }
    one.list_offsets = {0, one.sequences()};
    const std::vector<double> logits = backend.forward(one, c.skipped);
    CHECK(std::equal(logits.begin(), logits.end(), &whole.logits[c.batch.list_offsets[list] * exits]));
    backend.backward(direction, sum.data());
  }
  double largest = 0, error = 0;
  for (size_t i = 0; i < sum.size(); ++i) {
    largest = std::max<double>(largest, std::fabs(whole.gradients[i]));
    error = std::max<double>(error, std::fabs(whole.gradients[i] - sum[i]));
  }
  CHECK(error < 1e-6 * largest);
}
