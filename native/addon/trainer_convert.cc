#include "addon/trainer_convert.h"

#include <algorithm>

#include "addon/convert.h"
#include "addon/device.h"
#include "train/cpu/cpu_train_backend.h"
#include "train/cuda/cuda_train_backend.h"

namespace matryoshka::addon {
namespace {

[[noreturn]] void expected(const std::string& what, const char* name) { throw Error("ERR_INVALID_ARGUMENT", "Expected " + what + " for " + name); }

double number(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsNumber()) expected("a number", name);
  return value.As<Napi::Number>().DoubleValue();
}

/// Whole and in int's range; NaN is neither.
int integer(double value, const char* name) {
  if (!(value >= -2147483648.0 && value <= 2147483647.0) || value != static_cast<int>(value)) expected("an integer", name);
  return static_cast<int>(value);
}
int integer(const Napi::Object& object, const char* name) { return integer(number(object, name), name); }

bool flag(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsBoolean()) expected("a boolean", name);
  return value.As<Napi::Boolean>();
}

std::string text(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsString()) expected("a string", name);
  return value.As<Napi::String>();
}

Napi::Object member(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsObject()) expected("an object", name);
  return value.As<Napi::Object>();
}

Napi::Array list(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsArray()) expected("an array", name);
  return value.As<Napi::Array>();
}

std::vector<double> numbers(const Napi::Object& object, const char* name) {
  const Napi::Array array = list(object, name);
  std::vector<double> out;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value value = array.Get(i);
    if (!value.IsNumber()) expected("an array of numbers", name);
    out.push_back(value.As<Napi::Number>().DoubleValue());
  }
  return out;
}

std::vector<int> integers(const Napi::Object& object, const char* name) {
  std::vector<int> out;
  for (const double value : numbers(object, name)) out.push_back(integer(value, name));
  return out;
}

/// One of two words.
bool is_first(const Napi::Object& object, const char* name, const std::string& first, const std::string& second) {
  const std::string word = text(object, name);
  if (word != first && word != second) expected(first + " or " + second, name);
  return word == first;
}

}  // namespace

train::MakeTrainBackend to_train_backend(const Napi::Object& o) {
  train::CpuTrainOptions cpu;
  cpu.threads = integer(o, "threads");
  if (cpu.threads < 1 || cpu.threads > 1024) expected("from 1 to 1024", "threads");
  cpu.bf16 = is_first(o, "dtype", "bf16", "f32");
  cpu.isa = text(o, "isa");
  cpu.recompute = flag(o, "recompute");
  if (text(o, "device") == "cpu") return [cpu](const train::Layout& layout) { return std::make_unique<train::CpuTrainBackend>(layout, cpu); };
  if (!cpu.bf16) throw Error("ERR_UNSUPPORTED_DTYPE", "Expected dtype bf16 to train on a GPU; f32 is computed on the CPU");
  if (cpu.recompute) throw Error("ERR_INVALID_ARGUMENT", "Expected no recompute on a GPU: where its memory is short, lower turnTokens");
  return [options = to_options(o)](const train::Layout& layout) { return train::make_cuda_train_backend(layout, make_stream(options), options.cpu.threads); };
}

train::TrainerOptions to_trainer_options(const Napi::Object& o) {
  train::TrainerOptions out;
  if (!o.Get("exitLayers").IsUndefined()) {
    out.initial.exit_layers = integers(o, "exitLayers");
    if (out.initial.exit_layers.empty()) expected("at least one layer", "exitLayers");
  }
  if (!o.Get("carry").IsUndefined()) out.initial.carry = numbers(o, "carry");
  if (!o.Get("typeRows").IsUndefined()) {
    out.initial.type_rows = integer(o, "typeRows");
    if (out.initial.type_rows < 1) expected("at least one row", "typeRows");
  }
  if (!o.Get("head").IsUndefined()) out.initial.head = is_first(o, "head", "query", "linear") ? HeadKind::query : HeadKind::linear;
  const double seed = number(o, "seed");
  if (!(seed >= 0 && seed <= 9007199254740991.0)) expected("a whole number of at least 0", "seed");
  out.initial.seed = static_cast<uint64_t>(seed);
  out.turn_tokens = integer(o, "turnTokens");
  out.layer_dropout = number(o, "layerDropout");
  out.adam.beta1 = number(o, "beta1");
  out.adam.beta2 = number(o, "beta2");
  out.adam.epsilon = number(o, "epsilon");
  out.adam.weight_decay = number(o, "weightDecay");
  out.adam.clip = number(o, "clip");
  return out;
}

train::Targets to_targets(const Napi::Object& batch) {
  train::Targets out;
  out.labels = to_floats(batch, "labels");
  if (batch.Get("teachers").IsUndefined()) return out;
  const Napi::Array teachers = list(batch, "teachers");
  for (uint32_t i = 0; i < teachers.Length(); ++i) out.teachers.push_back(to_floats(teachers, std::to_string(i).c_str()));
  return out;
}

train::LossConfig to_loss(const Napi::Object& loss, const std::vector<int>& exit_layers) {
  train::LossConfig out;
  out.exit_weights = numbers(loss, "exitWeights");
  out.rank = number(loss, "rank");
  out.binary = number(loss, "binary");
  const Napi::Array teachers = list(loss, "teachers");
  for (uint32_t i = 0; i < teachers.Length(); ++i) {
    const Napi::Value value = teachers.Get(i);
    if (!value.IsObject()) expected("an array of objects", "teachers");
    const auto teacher = value.As<Napi::Object>();
    out.teachers.push_back({number(teacher, "weight"), number(teacher, "temperature"), number(teacher, "soften")});
  }
  const Napi::Object distill = member(loss, "distill");
  out.distill = number(distill, "weight");
  out.temperature = number(distill, "temperature");
  out.direction = is_first(distill, "direction", "forward", "reverse") ? train::Direction::forward : train::Direction::reverse;
  std::vector<int> anchors;
  for (const int layer : integers(distill, "anchors")) {
    const auto found = std::find(exit_layers.begin(), exit_layers.end(), layer);
    if (found == exit_layers.end()) expected("exit layers", "anchors");
    anchors.push_back(static_cast<int>(found - exit_layers.begin()));
  }
  out.teacher_of = train::nearest_anchors(static_cast<int>(exit_layers.size()), anchors);
  return out;
}

train::LearningRates to_rates(const Napi::Object& rates) { return {number(rates, "encoder"), number(rates, "heads")}; }

Napi::Object from_step(Napi::Env env, const train::StepResult& result, int tokens, double milliseconds) {
  auto exits = Napi::Array::New(env, result.loss.exits.size());
  for (size_t i = 0; i < result.loss.exits.size(); ++i) {
    const train::ExitLoss& exit = result.loss.exits[i];
    auto teachers = Napi::Array::New(env, exit.teachers.size());
    for (size_t t = 0; t < exit.teachers.size(); ++t) teachers.Set(static_cast<uint32_t>(t), exit.teachers[t]);
    auto parts = Napi::Object::New(env);
    parts.Set("rank", exit.rank);
    parts.Set("binary", exit.binary);
    parts.Set("teachers", teachers);
    parts.Set("distill", exit.distill);
    exits.Set(static_cast<uint32_t>(i), parts);
  }
  auto out = Napi::Object::New(env);
  out.Set("loss", result.loss.total);
  out.Set("perExit", exits);
  out.Set("gradNorm", result.gradient_norm);
  out.Set("applied", result.applied);
  out.Set("step", static_cast<double>(result.step));
  out.Set("tokens", tokens);
  out.Set("milliseconds", milliseconds);
  return out;
}

Napi::Object from_trainer(Napi::Env env, const Checkpoint& checkpoint, const train::Layout& layout, const std::string& backend) {
  auto out = from_checkpoint(env, checkpoint);
  auto layers = Napi::Array::New(env, layout.exit_layers.size());
  for (size_t i = 0; i < layout.exit_layers.size(); ++i) layers.Set(static_cast<uint32_t>(i), layout.exit_layers[i]);
  out.Set("exitLayers", layers);
  out.Set("tokenTypes", layout.architecture.token_types);
  out.Set("head", layout.architecture.head == HeadKind::query ? "query" : "linear");
  out.Set("parameters", static_cast<double>(layout.size));
  out.Set("backend", backend);
  return out;
}

}  // namespace matryoshka::addon
