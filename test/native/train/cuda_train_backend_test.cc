// The pass on a GPU, on the emulator: its gradients near the oracle's in bf16, and the same bits whatever the copies do.
#include "train/cuda/cuda_train_backend.h"

#include "cuda/emulator_stream.h"
#include "gradients.h"
#include "simt/emulator.h"
#include "train/cuda/table_rows.h"

using namespace matryoshka;
using namespace matryoshka::check;
using namespace matryoshka::train;

namespace {

/// Heads of each width; hidden sizes that fill a tile, are less, are more; sequences of more than one block of queries.
const std::vector<Shape> kShapes = {{2, 64, 2, 64, 50, 30}, {2, 192, 3, 128, 50, 20}, {1, 128, 1, 64, 50, 70}, {1, 64, 1, 128, 20, 80}, {3, 64, 2, 64, 50, 30, -1, true}};

std::unique_ptr<TrainBackend> backend(const Layout& layout) { return make_cuda_train_backend(layout, cuda::make_emulator_stream(), 2); }

Result run(const Case& c) { return run(c, *backend(c.model.layout)); }

}  // namespace

TEST("every gradient is near the oracle's") {
  for (const Shape& shape : kShapes) {
    const Case c(shape, 11);
    check_near(c, "hidden " + std::to_string(shape.hidden), run(c), Pass(c), Pass(c, to_bf16), 1e-3);
  }
}

TEST("… with each activation and with layers skipped") {
  for (const Activation activation : {Activation::gelu_tanh, Activation::relu}) {
    Case c(kShapes[0], 4);  // with whose weights no unit is so near to ReLU's kink that rounding decides its slope
    c.model.layout.architecture.activation = activation;
    check_near(c, "activation", run(c), Pass(c), Pass(c, to_bf16), 1e-3);
  }
  for (const std::vector<uint8_t>& skipped : {std::vector<uint8_t>{1, 0}, {0, 1}, {1, 1}}) {
    Case c(kShapes[0], 3);
    c.skipped = skipped;
    check_near(c, "skipped", run(c), Pass(c), Pass(c, to_bf16), 1e-3);
  }
}

TEST("the heads' gradients are the same without the encoder's") {
  for (const Shape& shape : {kShapes.front(), kShapes.back()}) {
    const Case c(shape, 9);
    check_heads_alone(c, *backend(c.model.layout));
  }
}

TEST("a backend takes batches of any size after each other, and the bits are the same whenever copies land") {
  const Case small(kShapes[0], 5);
  Case large(kShapes[0], 5);
  std::mt19937 random(6);
  large.batch = random_batch(random, kShapes[0], {7, 9, 30}, kShapes[0].positions);
  large.direction.assign(static_cast<size_t>(large.batch.sequences()) * kShapes[0].layers, 0.01);
  const auto shared = backend(small.model.layout);
  const simt::Options before = simt::options;
  const Result alone = run(small), alone_large = run(large);
  for (const simt::CopyMode copies : {simt::CopyMode::late, simt::CopyMode::random}) {
    simt::options.copies = copies;
    simt::options.shuffle = true;
    for (const Case* c : std::initializer_list<const Case*>{&small, &large, &small}) {
      const Result expected = c == &small ? alone : alone_large, found = run(*c, *shared);
      CHECK(found.logits == expected.logits);
      CHECK(std::memcmp(found.gradients.data(), expected.gradients.data(), found.gradients.size() * sizeof(float)) == 0);
    }
  }
  simt::options = before;
}

TEST("sizes that no kernel has are refused") {
  for (const Shape& shape : {Shape{1, 60, 2, 64, 20, 20}, Shape{1, 64, 4, 64, 20, 20}, Shape{1, 64, 2, 72, 20, 20}}) {
    const Case c(shape, 1);
    CHECK_THROWS_CODE(backend(c.model.layout), "ERR_UNSUPPORTED_ARCHITECTURE");
  }
}

TEST("tokens of a table's row are summed in segments, each token once, in order") {
  std::mt19937 random(3);
  for (const int tokens : {1, 63, 64, 65, 1000}) {
    std::vector<int32_t> row(tokens);
    for (int32_t& r : row) r = static_cast<int32_t>(random() % 5 * 3);
    const TableRows found = TableRows::of(row);
    std::vector<int> seen(tokens);
    for (size_t i = 0; i < found.rows.size(); ++i) {
      CHECK(i == 0 || found.rows[i - 1] < found.rows[i]);
      CHECK(found.starts[i] < found.starts[i + 1]);
      for (int s = found.starts[i]; s < found.starts[i + 1]; ++s) {
        CHECK(found.segments[s] < found.segments[s + 1] && found.segments[s + 1] - found.segments[s] <= TableRows::kSegment);
        for (int t = found.segments[s]; t < found.segments[s + 1]; ++t) {
          CHECK_EQ(row[found.order[t]], found.rows[i]);
          CHECK(t == found.segments[s] || found.order[t - 1] < found.order[t]);
          ++seen[found.order[t]];
        }
      }
    }
    for (const int times : seen) CHECK_EQ(times, 1);
  }
}
