#include "model/family.h"

#include <algorithm>
#include <utility>

#include "model/error.h"

namespace matryoshka {
namespace {

constexpr EncoderNames kBert = {
    "embeddings.word_embeddings",
    "embeddings.position_embeddings",
    "embeddings.token_type_embeddings",
    "embeddings.LayerNorm",
    "encoder.layer.{}.attention.self.query",
    "encoder.layer.{}.attention.self.key",
    "encoder.layer.{}.attention.self.value",
    "encoder.layer.{}.attention.output.dense",
    "encoder.layer.{}.attention.output.LayerNorm",
    "encoder.layer.{}.intermediate.dense",
    "encoder.layer.{}.output.dense",
    "encoder.layer.{}.output.LayerNorm",
};

const std::vector<Family>& families() {
  static const std::vector<Family> table = {
      {{"bert"}, {"bert.", ""}, kBert, true, "pooler.dense", "classifier", PositionOffset::zero, 0},
      {{"xlm-roberta", "roberta"},
       {"roberta.", ""},
       kBert,
       false,
       "classifier.dense",
       "classifier.out_proj",
       PositionOffset::after_padding,
       1},
  };
  return table;
}

constexpr std::pair<std::string_view, Activation> kActivations[] = {
    {"gelu", Activation::gelu},           {"gelu_python", Activation::gelu},    {"gelu_new", Activation::gelu_tanh},
    {"gelu_fast", Activation::gelu_tanh}, {"gelu_pytorch_tanh", Activation::gelu_tanh}, {"relu", Activation::relu},
};

// Far above any model of these families; low enough that no product of two of them overflows.
constexpr int kMaxLayers = 255;  // a layer is a byte in Scores
constexpr int kMaxWidth = 1 << 16;
constexpr int kMaxRows = 1 << 24;

[[noreturn]] void invalid(const std::string& source, std::string_view key, const std::string& expected,
                          const std::string& came) {
  throw Error("ERR_CONFIG_INVALID", source + ": " + std::string(key) + ": expected " + expected + ", got " + came);
}

[[noreturn]] void unsupported(const std::string& source, std::string_view key, const std::string& expected,
                              const std::string& came) {
  throw Error("ERR_UNSUPPORTED_ARCHITECTURE",
              source + ": " + std::string(key) + ": this engine runs " + expected + ", got " + came);
}

/// A string member, or `fallback` where there is none (or null).
std::string read_string(const Json& config, std::string_view key, std::string fallback, const std::string& source) {
  const Json* json = config.find(key);
  if (!json || json->as<std::nullptr_t>()) return fallback;
  const std::string* text = json->as<std::string>();
  if (!text) invalid(source, key, "a string", describe(json));
  return *text;
}

float read_epsilon(const Json& config, const std::string& source) {
  const Json* json = config.find("layer_norm_eps");
  if (!json) return 1e-12f;
  const double* real = json->as<double>();
  const int64_t* integer = json->as<int64_t>();
  const double value = real ? *real : integer ? static_cast<double>(*integer) : -1;
  if (value < 0 || value > 1) invalid(source, "layer_norm_eps", "a number from 0 to 1", describe(json));
  return static_cast<float>(value);
}

Activation read_activation(const Json& config, const std::string& source) {
  const std::string name = read_string(config, "hidden_act", "gelu", source);
  const auto* row = std::find_if(std::begin(kActivations), std::end(kActivations),
                                 [&](const auto& activation) { return activation.first == name; });
  if (row == std::end(kActivations)) {
    unsupported(source, "hidden_act", "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh and relu", quote(name));
  }
  return row->second;
}

}  // namespace

int read_integer(const Json& object, std::string_view key, int low, int high, const std::string& source) {
  const Json* json = object.find(key);
  const int64_t* value = json ? json->as<int64_t>() : nullptr;
  if (!value || *value < low || *value > high) {
    invalid(source, key, "an integer from " + std::to_string(low) + " to " + std::to_string(high), describe(json));
  }
  return static_cast<int>(*value);
}

const Family& find_family(const Json& config, const std::string& source) {
  const Json* json = config.find("model_type");
  const std::string* type = json ? json->as<std::string>() : nullptr;
  if (!type) invalid(source, "model_type", "the name of a model family", describe(json));
  std::string known;
  for (const Family& family : families()) {
    for (std::string_view name : family.model_types) {
      if (name == *type) return family;
      known += (known.empty() ? "" : ", ") + std::string(name);
    }
  }
  unsupported(source, "model_type", known, quote(*type));
}

Architecture read_architecture(const Family& family, const Json& config, const std::string& source) {
  Architecture out;
  out.family = read_string(config, "model_type", "", source);
  out.layers = read_integer(config, "num_hidden_layers", 1, kMaxLayers, source);
  out.hidden = read_integer(config, "hidden_size", 1, kMaxWidth, source);
  out.heads = read_integer(config, "num_attention_heads", 1, out.hidden, source);
  if (out.hidden % out.heads != 0) {
    invalid(source, "num_attention_heads", "a divisor of hidden_size " + std::to_string(out.hidden),
            std::to_string(out.heads));
  }
  out.head_dim = out.hidden / out.heads;
  out.intermediate = read_integer(config, "intermediate_size", 1, kMaxWidth * 4, source);
  out.vocab = read_integer(config, "vocab_size", 1, kMaxRows, source);
  out.positions = read_integer(config, "max_position_embeddings", 1, kMaxRows, source);
  out.token_types = read_integer(config, "type_vocab_size", 1, kMaxRows, source);
  out.norm_eps = read_epsilon(config, source);
  out.activation = read_activation(config, source);
  if (family.position_offset == PositionOffset::after_padding) {
    const bool has_pad = config.find("pad_token_id") != nullptr;
    const int pad = has_pad ? read_integer(config, "pad_token_id", 0, out.vocab - 1, source) : family.default_pad;
    out.position_offset = pad + 1;
    if (out.max_tokens() < 1) {
      invalid(source, "max_position_embeddings", "more than pad_token_id + 1 = " + std::to_string(pad + 1),
              std::to_string(out.positions));
    }
  }

  const std::string positions = read_string(config, "position_embedding_type", "absolute", source);
  if (positions != "absolute") unsupported(source, "position_embedding_type", "\"absolute\"", quote(positions));
  for (std::string_view key : {"is_decoder", "add_cross_attention"}) {
    const Json* json = config.find(key);
    const bool* value = json ? json->as<bool>() : nullptr;
    if (value && *value) unsupported(source, key, "encoders only", "true");
  }
  return out;
}

}  // namespace matryoshka
