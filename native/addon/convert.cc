#include "addon/convert.h"

#include <algorithm>
#include <map>

namespace matryoshka::addon {
namespace {

std::vector<int32_t> to_ints(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
    throw Error("ERR_INVALID_ARGUMENT", std::string("Expected an Int32Array for ") + name);
  const auto array = value.As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

/// A number, or `otherwise` where it is left out.
double number_or(const Napi::Object& object, const char* name, double otherwise) {
  const Napi::Value value = object.Get(name);
  return value.IsNumber() ? value.ToNumber().DoubleValue() : otherwise;
}

int exit_index(const std::vector<int>& exits, int64_t layer) {
  const auto found = std::find(exits.begin(), exits.end(), layer);
  if (found == exits.end()) throw Error("ERR_INVALID_ARGUMENT", "Expected an exit layer of the model but received " + std::to_string(layer));
  return static_cast<int>(found - exits.begin());
}

ExitHead to_head(const Napi::Object& object, const std::vector<int>& exits) {
  ExitHead head;
  head.exit = exit_index(exits, object.Get("layer").ToNumber().Int64Value());
  head.slope = static_cast<float>(number_or(object, "slope", 1));
  head.offset = static_cast<float>(number_or(object, "offset", 0));
  head.width = static_cast<float>(number_or(object, "width", 0));
  head.trend = static_cast<float>(number_or(object, "trend", 0));
  head.spread = static_cast<float>(number_or(object, "spread", 0));
  head.sure = number_or(object, "sure", head.sure);
  return head;
}

ExitRule to_rule(const Napi::Object& object, const std::vector<int>& exits, size_t sequences) {
  ExitRule rule;
  const auto heads = object.Get("exits").As<Napi::Array>();
  for (uint32_t i = 0; i < heads.Length(); ++i) {
    rule.heads.push_back(to_head(heads.Get(i).As<Napi::Object>(), exits));
    if (i > 0 && rule.heads[i].exit <= rule.heads[i - 1].exit)
      throw Error("ERR_INVALID_ARGUMENT", "Expected a rule's exits in ascending order");
  }
  const std::string kind = object.Get("kind").ToString();
  if (kind == "top-k") rule.kind = RuleKind::top_k;
  else if (kind == "budget") rule.kind = RuleKind::budget;
  else if (kind == "confidence") rule.kind = RuleKind::confidence;
  else throw Error("ERR_INVALID_ARGUMENT", "Expected top-k, budget or confidence for an exit rule but received " + kind);
  rule.k = static_cast<int>(number_or(object, "k", 1));
  if (rule.k < 1) throw Error("ERR_INVALID_ARGUMENT", "Expected at least 1 for k");
  rule.scale = static_cast<float>(number_or(object, "scale", 0));
  rule.stake = number_or(object, "stake", 0);
  rule.discounts = to_floats(object, "discounts");
  rule.over_list = object.Get("overList").ToBoolean();
  rule.easy = static_cast<float>(number_or(object, "easy", 0));
  rule.difficulty = to_floats(object, "difficulty");
  if (!rule.difficulty.empty() && rule.difficulty.size() != sequences)
    throw Error("ERR_INVALID_ARGUMENT", "Expected a difficulty per sequence");
  return rule;
}

}  // namespace

Napi::Error coded(Napi::Env env, const std::string& code, const std::string& message) {
  auto error = Napi::Error::New(env, message);
  error.Set("code", code);
  return error;
}

std::vector<float> to_floats(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (value.IsUndefined()) return {};
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
    throw Error("ERR_INVALID_ARGUMENT", std::string("Expected a Float32Array for ") + name);
  const auto array = value.As<Napi::Float32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

TokenBatch to_batch(const Napi::Object& batch) {
  TokenBatch out;
  out.token_ids = to_ints(batch, "tokenIds");
  if (!batch.Get("typeIds").IsUndefined()) out.type_ids = to_ints(batch, "typeIds");
  out.cu_seqlens = to_ints(batch, "cuSeqlens");
  out.list_offsets = to_ints(batch, "listOffsets");
  return out;
}

ExitPlan to_plan(const Napi::Object& plan, const Checkpoint& checkpoint, size_t sequences) {
  const std::vector<int>& exits = checkpoint.exit_layers();
  ExitPlan out;
  out.report.assign(exits.size(), 0);
  const auto layers = plan.Get("layers").As<Napi::Array>();
  for (uint32_t i = 0; i < layers.Length(); ++i) out.report[exit_index(exits, layers.Get(i).ToNumber().Int64Value())] = 1;
  out.depth = static_cast<int>(plan.Get("depth").ToNumber().Int64Value());
  out.report[exit_index(exits, out.depth)] = 1;
  if (const Napi::Value rule = plan.Get("rule"); rule.IsObject()) out.rule = to_rule(rule.As<Napi::Object>(), exits, sequences);
  out.states = plan.Get("states").ToBoolean();
  if (const Napi::Value deadline = plan.Get("deadlineMs"); deadline.IsNumber())
    out.deadline = std::chrono::steady_clock::now() +
                   std::chrono::microseconds(static_cast<int64_t>(deadline.ToNumber().DoubleValue() * 1e3));
  return out;
}

Napi::Object from_checkpoint(Napi::Env env, const Checkpoint& checkpoint) {
  static constexpr const char* kTypes[] = {"F32", "F16", "BF16", "I8"};
  const Architecture& a = checkpoint.architecture();
  auto out = Napi::Object::New(env);
  out.Set("family", a.family);
  out.Set("layers", a.layers);
  out.Set("hidden", a.hidden);
  out.Set("heads", a.heads);
  out.Set("intermediate", a.intermediate);
  out.Set("vocab", a.vocab);
  out.Set("maxTokens", a.max_tokens());
  out.Set("tokenTypes", a.token_types);
  out.Set("head", a.head == HeadKind::linear ? "linear" : a.head == HeadKind::query ? "query" : "dense_tanh_linear");
  out.Set("parameters", static_cast<double>(checkpoint.parameters()));
  out.Set("fileBytes", static_cast<double>(checkpoint.file_bytes()));
  const std::vector<int>& exits = checkpoint.exit_layers();
  out.Set("compensated", checkpoint.compensated());
  auto layers = Napi::Array::New(env, exits.size());
  for (size_t i = 0; i < exits.size(); ++i) layers.Set(static_cast<uint32_t>(i), exits[i]);
  out.Set("exitLayers", layers);
  auto carry = Napi::Array::New(env, exits.size());
  for (size_t i = 0; i < exits.size(); ++i) carry.Set(static_cast<uint32_t>(i), checkpoint.head(static_cast<int>(i)).carry);
  out.Set("carry", carry);
  std::map<std::string, int> types;
  for (const Tensor* tensor : checkpoint.tensors()) ++types[kTypes[static_cast<int>(tensor->type)]];
  auto stored = Napi::Object::New(env);
  for (const auto& [type, count] : types) stored.Set(type, count);
  out.Set("storedTypes", stored);
  return out;
}

Napi::Object from_job(Napi::Env env, const Job& job) {
  const auto floats = [&](const std::vector<float>& values) {
    auto array = Napi::Float32Array::New(env, values.size());
    std::copy(values.begin(), values.end(), array.Data());
    return array;
  };
  auto layers = Napi::Uint8Array::New(env, job.scores.exit_layers.size());
  std::copy(job.scores.exit_layers.begin(), job.scores.exit_layers.end(), layers.Data());
  auto out = Napi::Object::New(env);
  out.Set("logits", floats(job.scores.logits));
  if (!job.scores.estimates.empty()) out.Set("estimates", floats(job.scores.estimates));
  if (!job.scores.units.empty()) out.Set("units", floats(job.scores.units));
  if (!job.scores.states.empty()) out.Set("states", floats(job.scores.states));
  out.Set("exitLayers", layers);
  out.Set("partial", job.scores.partial);
  out.Set("milliseconds", job.milliseconds);
  return out;
}

Napi::Object from_gpus(Napi::Env env, const cuda::Gpus& gpus) {
  auto devices = Napi::Array::New(env, gpus.devices.size());
  for (size_t i = 0; i < gpus.devices.size(); ++i) {
    const cuda::Gpu& gpu = gpus.devices[i];
    auto device = Napi::Object::New(env);
    device.Set("index", gpu.index);
    device.Set("name", gpu.name);
    device.Set("capability", gpu.capability);
    device.Set("totalGiB", gpu.total_gib);
    device.Set("multiprocessors", gpu.multiprocessors);
    device.Set("clockGHz", gpu.clock_ghz);
    device.Set("gigabytesPerSecond", gpu.gigabytes_second);
    devices.Set(static_cast<uint32_t>(i), device);
  }
  auto out = Napi::Object::New(env);
  out.Set("devices", devices);
  out.Set("reason", gpus.reason);
  out.Set("object", gpus.object);
  out.Set("toolkit", gpus.toolkit);
  out.Set("driver", gpus.driver);
  return out;
}

Napi::Array from_strings(Napi::Env env, const std::vector<std::string>& strings) {
  auto out = Napi::Array::New(env, strings.size());
  for (size_t i = 0; i < strings.size(); ++i) out.Set(static_cast<uint32_t>(i), strings[i]);
  return out;
}

}  // namespace matryoshka::addon
