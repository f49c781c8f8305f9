#include "tiny_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace matryoshka::tiny {
namespace {

constexpr int64_t kLayers = 2, kHidden = 8, kIntermediate = 16, kVocab = 12, kPositions = 10;

/// A float of small magnitude with a short mantissa, exact in every dtype here.
std::string element(const std::string& dtype, int index) {
  const float value = static_cast<float>(index % 15 - 7) / 8;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t exponent = (bits >> 23) & 0xFF;
  if (dtype == "F16") bits = (bits >> 16 & 0x8000) | (exponent ? (exponent - 112) << 10 | (bits >> 13 & 0x3FF) : 0);
  if (dtype == "BF16") bits >>= 16;
  return std::string(reinterpret_cast<const char*>(&bits), dtype == "F32" ? 4 : 2);
}

TensorData tensor(const std::string& dtype, const std::string& name, const std::vector<int64_t>& shape) {
  TensorData out{name, dtype, shape, ""};
  int64_t count = 1;
  for (int64_t dim : shape) count *= dim;
  for (int64_t i = 0; i < count; ++i) out.bytes += element(dtype, static_cast<int>(i));
  return out;
}

std::string config(const std::string& type, const std::string& architecture, int types, int pad) {
  std::ostringstream out;
  out << "{\"architectures\": [\"" << architecture << "\"], \"model_type\": \"" << type
      << "\", \"hidden_size\": 8, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"intermediate_size\": 16, "
         "\"vocab_size\": 12, \"max_position_embeddings\": 10, \"type_vocab_size\": "
      << types << ", \"hidden_act\": \"gelu\", \"layer_norm_eps\": 1e-12, \"pad_token_id\": " << pad
      << ", \"position_embedding_type\": \"absolute\", \"id2label\": {\"0\": \"LABEL_0\"}}";
  return out.str();
}

std::vector<TensorData> encoder(const std::string& dtype, const std::string& prefix, int64_t types) {
  std::vector<TensorData> out;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    out.push_back(tensor(dtype, prefix + name, shape));
  };
  const auto linear = [&](const std::string& name, int64_t rows, int64_t columns) {
    add(name + ".weight", {rows, columns});
    add(name + ".bias", {rows});
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {kHidden});
    add(name + ".bias", {kHidden});
  };
  add("embeddings.word_embeddings.weight", {kVocab, kHidden});
  add("embeddings.position_embeddings.weight", {kPositions, kHidden});
  add("embeddings.token_type_embeddings.weight", {types, kHidden});
  norm("embeddings.LayerNorm");
  for (int64_t l = 0; l < kLayers; ++l) {
    const std::string layer = "encoder.layer." + std::to_string(l) + ".";
    linear(layer + "attention.self.query", kHidden, kHidden);
    linear(layer + "attention.self.key", kHidden, kHidden);
    linear(layer + "attention.self.value", kHidden, kHidden);
    linear(layer + "attention.output.dense", kHidden, kHidden);
    norm(layer + "attention.output.LayerNorm");
    linear(layer + "intermediate.dense", kIntermediate, kHidden);
    linear(layer + "output.dense", kHidden, kIntermediate);
    norm(layer + "output.LayerNorm");
  }
  return out;
}

/// A classification head: `dense` [H, H] and `out` [1, H], with biases.
void add_head(std::vector<TensorData>& to, const std::string& dtype, const std::string& dense, const std::string& out) {
  to.push_back(tensor(dtype, dense + ".weight", {kHidden, kHidden}));
  to.push_back(tensor(dtype, dense + ".bias", {kHidden}));
  to.push_back(tensor(dtype, out + ".weight", {1, kHidden}));
  to.push_back(tensor(dtype, out + ".bias", {1}));
}

}  // namespace

std::string safetensors(const std::string& header, const std::string& data) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  return out + header + data;
}

std::string safetensors(const std::vector<TensorData>& tensors) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}", data;
  for (const TensorData& t : tensors) {
    header += ",\"" + t.name + "\":{\"dtype\":\"" + t.dtype + "\",\"shape\":[";
    for (size_t i = 0; i < t.shape.size(); ++i) header += (i ? "," : "") + std::to_string(t.shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(data.size()) + ",";
    data += t.bytes;
    header += std::to_string(data.size()) + "]}";
  }
  return safetensors(header + "}", data);
}

TensorData& Model::tensor(const std::string& name) {
  for (auto* set : {&weights, &exits}) {
    for (TensorData& t : *set) {
      if (t.name == name) return t;
    }
  }
  throw std::logic_error("no tensor " + name);
}

void Model::remove(const std::string& name) {
  const TensorData* gone = &tensor(name);
  for (auto* set : {&weights, &exits}) {
    const auto at = std::find_if(set->begin(), set->end(), [&](const TensorData& t) { return &t == gone; });
    if (at != set->end()) return void(set->erase(at));
  }
}

void Model::replace(const std::string& from, const std::string& to) {
  for (std::string* text : {&config, &matryoshka}) {
    const size_t at = text->find(from);
    if (at != text->npos) return void(text->replace(at, from.size(), to));
  }
  throw std::logic_error("nothing reads " + from);
}

Files Model::files() const {
  Files out = {{"config.json", config}, {"model.safetensors", safetensors(weights)}};
  if (!matryoshka.empty()) {
    out["matryoshka.json"] = matryoshka;
    out["matryoshka.safetensors"] = safetensors(exits);
  }
  return out;
}

Files Model::sharded_files() const {
  Files out = files();
  out.erase("model.safetensors");
  const auto middle = weights.begin() + static_cast<std::ptrdiff_t>(weights.size() / 2);
  const std::vector<TensorData> halves[] = {{weights.begin(), middle}, {middle, weights.end()}};
  std::string map;
  for (int i = 0; i < 2; ++i) {
    const std::string shard = "model-0000" + std::to_string(i + 1) + "-of-00002.safetensors";
    out[shard] = safetensors(halves[i]);
    for (const TensorData& t : halves[i]) map += (map.empty() ? "\"" : ", \"") + t.name + "\": \"" + shard + "\"";
  }
  out["model.safetensors.index.json"] = "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {" + map + "}}";
  return out;
}

Model layerwise_bert(const std::string& dtype) {
  Model out{config("bert", "BertModel", 2, 0), "", encoder(dtype, "", 2), {}};
  out.matryoshka =
      "{\"formatVersion\": 1, \"exitLayers\": [1, 2], \"head\": \"linear\", \"compensation\": \"none\", "
      "\"provenance\": {\"base\": \"tiny\"}}";
  for (const char* layer : {"1", "2"}) {
    out.exits.push_back(tensor("F32", std::string("exit.") + layer + ".weight", {1, kHidden}));
    out.exits.push_back(tensor("F32", std::string("exit.") + layer + ".bias", {1}));
  }
  return out;
}

Model bert_classifier(const std::string& dtype) {
  Model out{config("bert", "BertForSequenceClassification", 2, 0), "", encoder(dtype, "bert.", 2), {}};
  add_head(out.weights, dtype, "bert.pooler.dense", "classifier");
  return out;
}

Model xlm_roberta_classifier(const std::string& dtype) {
  Model out{config("xlm-roberta", "XLMRobertaForSequenceClassification", 1, 1), "", encoder(dtype, "roberta.", 1), {}};
  add_head(out.weights, dtype, "classifier.dense", "classifier.out_proj");
  return out;
}

Directory::Directory(const std::filesystem::path& parent) {
  std::random_device random;
  do {
    path_ = parent / ("matryoshka-test-" + std::to_string(random()));
  } while (!std::filesystem::create_directory(path_));
}

Directory::~Directory() {
  std::error_code none;
  std::filesystem::remove_all(path_, none);
}

void Directory::write(const Files& files) const {
  for (const auto& [name, content] : files) {
    std::ofstream out(path_ / name, std::ios::binary | std::ios::trunc);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    if (!out.flush()) throw std::runtime_error("cannot write " + (path_ / name).u8string());
  }
}

}  // namespace matryoshka::tiny
