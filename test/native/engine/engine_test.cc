#include "engine/engine.h"

#include <future>

#include "check.h"
#include "random_model.h"
#include "reference/reference_backend.h"

namespace matryoshka {
namespace {

struct Opened {
  std::promise<std::string> ready;
  std::vector<std::shared_ptr<Job>> done;
  std::promise<void> all_done;
  size_t expected = 1;
  std::unique_ptr<Engine> engine;

  explicit Opened(Engine::Load load) {
    engine = std::make_unique<Engine>(
        std::move(load), [this](const Engine::Model* model, const std::string& code, const std::string&) { ready.set_value(model ? "ok" : code); },
        [this](std::shared_ptr<Job> job) {
          done.push_back(std::move(job));
          if (done.size() == expected) all_done.set_value();
        });
  }
};

Engine::Load reference_of(const check::RandomModel& model) {
  return [checkpoint = model.checkpoint()] { return Engine::Model{checkpoint, make_reference_backend(checkpoint)}; };
}

std::shared_ptr<Job> job_for(const check::Shape& shape, uint32_t id) {
  auto job = std::make_shared<Job>();
  std::mt19937 random(id);
  job->id = id;
  job->batch = check::random_batch(random, shape, {3}, 8);
  job->plan.depth = shape.layers;
  job->plan.report.assign(shape.layers, 1);
  return job;
}

TEST("jobs come back in the order they went in, each with its scores") {
  const check::Shape shape;
  const check::RandomModel model(shape, 21);
  Opened opened(reference_of(model));
  CHECK_EQ(opened.ready.get_future().get(), "ok");
  opened.expected = 5;
  for (uint32_t id = 0; id < 5; ++id) opened.engine->submit(job_for(shape, id));
  opened.all_done.get_future().wait();
  opened.engine->stop();
  for (uint32_t id = 0; id < 5; ++id) {
    CHECK_EQ(opened.done[id]->id, id);
    CHECK_EQ(opened.done[id]->error_code, "");
    CHECK_EQ(opened.done[id]->scores.logits.size(), size_t{15});
  }
}

TEST("a cancelled job comes back as aborted and the next one is scored") {
  const check::Shape shape;
  const check::RandomModel model(shape, 22);
  Opened opened(reference_of(model));
  opened.expected = 2;
  auto cancelled = job_for(shape, 1);
  cancelled->cancelled = true;
  opened.engine->submit(cancelled);
  opened.engine->submit(job_for(shape, 2));
  opened.all_done.get_future().wait();
  CHECK_EQ(opened.done[0]->error_code, "ERR_ABORTED");
  CHECK_EQ(opened.done[1]->error_code, "");
}

TEST("a load that fails reports its code, and stopping is safe at any time and twice") {
  Opened failing([]() -> Engine::Model { throw Error("ERR_MODEL_NOT_FOUND", "nothing there"); });
  CHECK_EQ(failing.ready.get_future().get(), "ERR_MODEL_NOT_FOUND");
  failing.engine->stop();
  failing.engine->stop();
  Opened without_memory([]() -> Engine::Model { throw std::bad_alloc(); });
  CHECK_EQ(without_memory.ready.get_future().get(), "ERR_OUT_OF_MEMORY");
  const check::Shape shape;
  const check::RandomModel model(shape, 23);
  Opened busy(reference_of(model));
  for (uint32_t id = 0; id < 50; ++id) busy.engine->submit(job_for(shape, id));
  busy.engine->stop();
  CHECK(busy.done.size() <= 50);
}

}  // namespace
}  // namespace matryoshka
