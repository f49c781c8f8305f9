// A model in training, from outside: it learns, repeats itself bit for bit, resumes, and exports what the engine reads.
#include "train/trainer.h"

#include <cmath>
#include <cstring>
#include <filesystem>

#include "check.h"
#include "cpu/cpu_backend.h"
#include "engine/forward.h"
#include "random_model.h"
#include "train/cpu/cpu_train_backend.h"
#include "train/tensor_file.h"

using namespace matryoshka;
using namespace matryoshka::check;
using namespace matryoshka::train;

namespace {

const Shape kShape{3, 24, 3, 40, 50, 20};

struct Options : TrainerOptions {
  CpuTrainOptions cpu;
};

class CpuTrainer : public Trainer {
 public:
  CpuTrainer(const std::string& directory, const Options& options)
      : Trainer(directory, options, [&](const Layout& layout) { return std::make_unique<CpuTrainBackend>(layout, options.cpu); }) {}
};

Options options(int threads = 2, bool bf16 = false) {
  Options o;
  o.cpu.threads = threads;
  o.cpu.bf16 = bf16;
  o.initial.seed = 7;
  o.turn_tokens = 60;
  o.layer_dropout = 0.3;
  return o;
}

LossConfig loss() {
  LossConfig config;
  config.exit_weights = {1, 1, 1};
  config.rank = 1;
  config.binary = 0.2;
  config.distill = 0.5;
  config.teacher_of = nearest_anchors(3, {});
  return config;
}

struct Data {
  explicit Data(uint32_t seed) {
    std::mt19937 random(seed);
    batch = random_batch(random, kShape, {4, 3, 5, 4}, kShape.positions);
    for (int list = 0; list < batch.lists(); ++list)
      for (int s = batch.list_offsets[list]; s < batch.list_offsets[list + 1]; ++s) targets.labels.push_back(s == batch.list_offsets[list] ? 1.f : 0.f);
  }
  TokenBatch batch;
  Targets targets;
};

void steps(Trainer& trainer, int first, int last) {
  for (int i = first; i < last; ++i) {
    const Data data(i % 3);
    CHECK(trainer.step(data.batch, data.targets, loss(), {2e-3, 5e-3}).applied);
  }
}

bool same_weights(const Trainer& a, const Trainer& b) { return std::memcmp(a.weights().data(), b.weights().data(), a.weights().size() * sizeof(float)) == 0; }

}  // namespace

TEST("steps over the same lists bring the loss down, in f32 and in bf16") {
  const RandomModel model(kShape, 3);
  for (const bool bf16 : {false, true}) {
    Options o = options(2, bf16);
    o.layer_dropout = 0;
    CpuTrainer trainer(model.path(), o);
    const Data data(1);
    const double before = trainer.step(data.batch, data.targets, loss(), {2e-3, 5e-3}).loss.total;
    double after = before;
    for (int i = 0; i < 30; ++i) after = trainer.step(data.batch, data.targets, loss(), {2e-3, 5e-3}).loss.total;
    CHECK(after < before / 4);
  }
}

TEST("an encoder at rate 0 stays as it is, bit for bit, and its heads learn") {
  const RandomModel model(kShape, 3);
  Options o = options();
  o.layer_dropout = 0;
  CpuTrainer trainer(model.path(), o);
  const std::vector<float> before = trainer.weights();
  const size_t encoder = trainer.layout().heads.front().weight;
  const Data data(1);
  const auto step = [&] { return trainer.step(data.batch, data.targets, loss(), {0, 5e-3}).loss.total; };
  const double first = step();
  for (int i = 0; i < 20; ++i) step();
  CHECK(step() < first);
  CHECK(std::memcmp(trainer.weights().data(), before.data(), encoder * sizeof(float)) == 0);
}

TEST("the weights after some steps are the same bits with any number of threads, and with activations recomputed") {
  const RandomModel model(kShape, 3);
  for (const bool bf16 : {false, true}) {
    CpuTrainer one(model.path(), options(1, bf16)), three(model.path(), options(3, bf16));
    Options o = options(2, bf16);
    o.cpu.recompute = true;
    CpuTrainer again(model.path(), o);
    for (CpuTrainer* trainer : {&one, &three, &again}) steps(*trainer, 0, 5);
    CHECK(same_weights(one, three));
    CHECK(same_weights(one, again));
  }
}

TEST("a run that is saved, thrown away and loaded goes on with the bits it would have had") {
  const RandomModel model(kShape, 3);
  const tiny::Directory directory;
  CpuTrainer straight(model.path(), options());
  steps(straight, 0, 8);
  {
    CpuTrainer first(model.path(), options());
    steps(first, 0, 5);
    first.save(directory.path() + "/state");
  }
  Options other = options();
  other.initial.seed = 99;  // the seed, too, comes from the file
  CpuTrainer second(model.path(), other);
  second.load(directory.path() + "/state");
  steps(second, 5, 8);
  CHECK(same_weights(straight, second));
}

TEST("a state that is cut short, of another model or no state at all changes nothing") {
  const RandomModel model(kShape, 3), narrower({3, 12, 3, 40, 50, 20}, 3);
  const tiny::Directory directory;
  CpuTrainer trainer(model.path(), options()), other(narrower.path(), options()), untouched(model.path(), options());
  const std::string path = directory.path() + "/state";
  other.save(path);
  CHECK_THROWS_CODE(trainer.load(path), "ERR_TENSOR_SHAPE");
  trainer.save(path);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  CHECK_THROWS_CODE(trainer.load(path), "ERR_SAFETENSORS_INVALID");
  CHECK_THROWS_CODE(trainer.load(directory.path() + "/none"), "ERR_FILE");
  CHECK_THROWS(trainer.load(model.path() + "/model.safetensors"), "ERR_TENSOR_MISSING", "progress");
  CHECK(same_weights(trainer, untouched));
}

TEST("a file that cannot be written is an error, and leaves nothing behind") {
  const RandomModel model(kShape, 3);
  const tiny::Directory directory;
  CpuTrainer trainer(model.path(), options());
  CHECK_THROWS_CODE(trainer.save(directory.path() + "/no/such/place"), "ERR_FILE");
  CHECK_THROWS_CODE(trainer.export_to(directory.path() + "/no"), "ERR_FILE");
  CHECK(std::filesystem::is_empty(directory.path()));
  if (!std::filesystem::exists("/dev/full")) SKIP("no /dev/full here");
  std::filesystem::create_symlink("/dev/full", directory.path() + "/state.partial");
  CHECK_THROWS(trainer.save(directory.path() + "/state"), "ERR_FILE", "space");
  CHECK(!std::filesystem::exists(directory.path() + "/state"));
}

TEST("what is exported, the engine scores as the trainer does") {
  for (const Shape& shape : {kShape, carrying(conditioned(kShape))}) {
    const RandomModel model(shape, 3);
    Options o = options();
    if (shape.carry > 0) o.initial.carry = {0, shape.carry, shape.carry};
    CpuTrainer trainer(model.path(), o);
    steps(trainer, 0, 3);
    const Data data(9);
    const std::vector<float> scores = trainer.score(data.batch);
    trainer.export_to(model.path());
    const auto checkpoint = Checkpoint::open(model.path());
    const auto backend = make_cpu_backend(checkpoint, {1, Dtype::f32, ""});
    ExitPlan plan;
    plan.depth = kShape.layers;
    plan.report = {1, 1, 1};
    Scores engine;
    const std::atomic<bool> cancelled{false};
    CHECK(forward(*backend, *checkpoint, data.batch, plan, cancelled, engine));
    for (size_t i = 0; i < scores.size(); ++i) CHECK(std::fabs(scores[i] - engine.logits[i]) < 0.02);  // the weights became F16
    CHECK_EQ(CpuTrainer(model.path(), options()).layout().heads.size(), size_t{3});
  }
}

TEST("a new query-conditioned head begins as the encoder's own opinion: a multiple of the cosine, least at early exits") {
  const tiny::Directory directory(tiny::layerwise_bert().files());
  Options o = options();
  o.initial.head = HeadKind::query;
  const CpuTrainer trainer(directory.path(), o);
  const Layout& layout = trainer.layout();
  CHECK(layout.architecture.head == HeadKind::query);
  const int hidden = layout.architecture.hidden;
  float first[2];
  for (int exit = 0; exit < 2; ++exit) {
    const float* m = &trainer.weights()[layout.heads[exit].query];
    first[exit] = m[0];
    for (int i = 0; i < hidden * hidden; ++i) CHECK_EQ(m[i], i % (hidden + 1) == 0 ? m[0] : 0.f);
  }
  CHECK(first[0] > 0 && first[1] > 5 * first[0]);
}

TEST("any supported encoder becomes layer-wise, with the exits asked for and more token types") {
  for (const tiny::Model& tiny_model : {tiny::bert_classifier(), tiny::xlm_roberta_classifier(), tiny::layerwise_bert()}) {
    const tiny::Directory directory(tiny_model.files());
    Options o = options();
    o.initial.type_rows = 4;
    const CpuTrainer trainer(directory.path(), o);
    const Layout& layout = trainer.layout();
    CHECK(layout.exit_layers == (std::vector<int>{1, 2}));
    CHECK_EQ(layout.architecture.token_types, 4);
    const auto row = [&](int r) { return &trainer.weights()[layout.type + r * layout.architecture.hidden]; };
    const int known = tiny_model.config.find("\"type_vocab_size\": 1") == std::string::npos ? 1 : 0;
    CHECK(std::equal(row(2), row(3), row(known)));
    CHECK(std::equal(row(3), row(3) + layout.architecture.hidden, row(0)));
    o.initial.exit_layers = {2};
    CHECK_EQ(CpuTrainer(directory.path(), o).layout().heads.size(), size_t{1});
    o.initial.exit_layers = {1};
    CHECK_THROWS_CODE(CpuTrainer(directory.path(), o), "ERR_INVALID_ARGUMENT");
  }
}

TEST("a step with anything wrong changes nothing") {
  const RandomModel model(kShape, 3);
  CpuTrainer trainer(model.path(), options()), untouched(model.path(), options());
  const Data good(1);
  Data data = good;
  data.targets.labels.pop_back();
  CHECK_THROWS_CODE(trainer.step(data.batch, data.targets, loss(), {1e-3, 1e-3}), "ERR_INVALID_ARGUMENT");
  data = good;
  data.batch.token_ids[3] = 50;
  CHECK_THROWS_CODE(trainer.step(data.batch, data.targets, loss(), {1e-3, 1e-3}), "ERR_INVALID_ARGUMENT");
  CHECK_THROWS_CODE(trainer.step(good.batch, good.targets, loss(), {NAN, 1e-3}), "ERR_INVALID_ARGUMENT");
  TokenBatch none;
  none.cu_seqlens = none.list_offsets = {0};
  CHECK_THROWS_CODE(trainer.step(none, {}, loss(), {1e-3, 1e-3}), "ERR_INVALID_ARGUMENT");
  LossConfig huge = loss();
  huge.exit_weights = {1e308, 1e308, 1e308};
  CHECK(!trainer.step(good.batch, good.targets, huge, {1e-3, 1e-3}).applied);
  CHECK(same_weights(trainer, untouched));
  CHECK_EQ(trainer.step(good.batch, good.targets, loss(), {1e-3, 1e-3}).step, uint64_t{1});
}

TEST("a gradient whose square is no float is not applied, unless it is clipped first") {
  const RandomModel model(kShape, 3);
  const Data good(1);
  LossConfig huge = loss();
  huge.exit_weights = {1e25, 1e25, 1e25};
  for (const double clip : {1.0, static_cast<double>(INFINITY)}) {
    Options own = options();
    own.adam.clip = clip;
    CpuTrainer trainer(model.path(), own);
    CHECK_EQ(trainer.step(good.batch, good.targets, huge, {1e-3, 1e-3}).applied, clip == 1.0);
    CHECK(trainer.step(good.batch, good.targets, loss(), {1e-3, 1e-3}).applied);
  }
}

TEST("a number becomes the nearest f16") {
  const std::pair<float, uint16_t> known[] = {{0.f, 0}, {-0.f, 0x8000}, {1.f, 0x3c00}, {65504.f, 0x7bff}, {65519.f, 0x7bff}, {65520.f, 0x7c00}, {0x1p-24f, 1}, {0x1p-25f, 0}, {0x1.8p-24f, 2},
                                              {0x1p-14f, 0x0400}, {0x1.ff8p-15f, 0x03ff}, {0x1.ffcp-15f, 0x0400}, {0x1.002p0f, 0x3c00}, {0x1.006p0f, 0x3c02}, {-2.5f, 0xc100}, {INFINITY, 0x7c00}};
  for (const auto& [value, half] : known) CHECK_EQ(to_f16(value), half);
  for (uint32_t half = 0; half < 0x7c00; ++half) {
    const uint16_t stored = static_cast<uint16_t>(half);
    const Tensor tensor{"", StoredType::f16, {1}, reinterpret_cast<const std::byte*>(&stored)};
    float value = 0;
    widen(tensor, 0, 1, &value);
    CHECK_EQ(to_f16(value), stored);
  }
}
