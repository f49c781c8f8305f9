#include "model/family.h"

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
    {"gelu", Activation::gelu},
    {"gelu_python", Activation::gelu},
    {"gelu_new", Activation::gelu_tanh},
    {"gelu_fast", Activation::gelu_tanh},
    {"gelu_pytorch_tanh", Activation::gelu_tanh},
    {"relu", Activation::relu},
};

// Far above any model of these families; low enough that no product of two of them overflows.
constexpr int kMaxLayers = 255;  // a layer is a byte in Scores
constexpr int kMaxWidth = 1 << 16;
constexpr int kMaxRows = 1 << 24;

[[noreturn]] void unsupported(const Config& config, std::string_view key, const std::string& ours,
                              const std::string& came) {
  throw Error("ERR_UNSUPPORTED_ARCHITECTURE",
              config.source() + ": " + std::string(key) + ": this engine runs " + ours + ", got " + came);
}

Activation read_activation(const Config& config) {
  const std::string name = config.text("hidden_act", "gelu");
  std::string ours;
  for (const auto& [known, activation] : kActivations) {
    if (known == name) return activation;
    ours += (ours.empty() ? "" : ", ") + std::string(known);
  }
  unsupported(config, "hidden_act", ours, quote(name));
}

}  // namespace

const Family& find_family(const Config& config) {
  const std::string type = config.text("model_type");
  std::string ours;
  for (const Family& family : families()) {
    for (std::string_view name : family.model_types) {
      if (name == type) return family;
      ours += (ours.empty() ? "" : ", ") + std::string(name);
    }
  }
  unsupported(config, "model_type", ours, quote(type));
}

Architecture read_architecture(const Family& family, const Config& config) {
  Architecture out;
  out.family = config.text("model_type");
  out.layers = config.integer("num_hidden_layers", 1, kMaxLayers);
  out.hidden = config.integer("hidden_size", 1, kMaxWidth);
  out.heads = config.integer("num_attention_heads", 1, out.hidden);
  if (out.hidden % out.heads != 0) {
    config.invalid("num_attention_heads", "a divisor of hidden_size " + std::to_string(out.hidden),
                   std::to_string(out.heads));
  }
  out.head_dim = out.hidden / out.heads;
  out.intermediate = config.integer("intermediate_size", 1, kMaxWidth * 4);
  out.vocab = config.integer("vocab_size", 1, kMaxRows);
  out.positions = config.integer("max_position_embeddings", 1, kMaxRows);
  out.token_types = config.integer("type_vocab_size", 1, kMaxRows);
  out.norm_eps = static_cast<float>(config.number("layer_norm_eps", 0, 1, 1e-12));
  out.activation = read_activation(config);
  if (family.position_offset == PositionOffset::after_padding) {
    const int pad = config.find("pad_token_id") ? config.integer("pad_token_id", 0, out.vocab - 1) : family.default_pad;
    out.position_offset = pad + 1;
    if (out.max_tokens() < 1) {
      config.invalid("max_position_embeddings", "more than pad_token_id + 1 = " + std::to_string(pad + 1),
                     std::to_string(out.positions));
    }
  }

  const std::string positions = config.text("position_embedding_type", "absolute");
  if (positions != "absolute") unsupported(config, "position_embedding_type", "\"absolute\"", quote(positions));
  for (std::string_view key : {"is_decoder", "add_cross_attention"}) {
    if (config.flag(key)) unsupported(config, key, "encoders only", "true");
  }
  return out;
}

bool says_classification(const Config& config) {
  const Json* json = config.find("architectures");
  const Json::Array* names = json ? json->as<Json::Array>() : nullptr;
  const std::string* first = names && !names->empty() ? names->front().as<std::string>() : nullptr;
  constexpr std::string_view suffix = "ForSequenceClassification";
  return first && first->size() >= suffix.size() &&
         first->compare(first->size() - suffix.size(), suffix.size(), suffix) == 0;
}

void require_one_label(const Config& config) {
  // Like transformers: the names decide, the number counts only where there are none.
  const Json* names = config.find("id2label");
  const Json* number = config.find("num_labels");
  const Json::Object* labels = names ? names->as<Json::Object>() : nullptr;
  const int64_t* count = number ? number->as<int64_t>() : nullptr;
  const int64_t found = labels ? static_cast<int64_t>(labels->size()) : count ? *count : 1;
  if (found != 1)
    unsupported(config, labels ? "id2label" : "num_labels", "rerankers, with 1 label", std::to_string(found));
}

}  // namespace matryoshka
