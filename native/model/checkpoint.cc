#include "model/checkpoint.h"

#include <array>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "model/error.h"
#include "model/family.h"
#include "model/finite.h"
#include "model/json.h"
#include "model/safetensors.h"

namespace matryoshka {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfigBytes = 16 << 20;

bool is_there(const fs::path& path) {
  std::error_code none;
  return fs::exists(path, none);
}

Json read_config(const fs::path& path) {
  const std::string source = path.u8string();
  const MappedFile file(path);
  if (file.size() > kMaxConfigBytes) {
    throw Error("ERR_CONFIG_INVALID", source + ": expected at most " + std::to_string(kMaxConfigBytes) +
                                          " bytes, got " + std::to_string(file.size()));
  }
  Json json = parse_json(file.text(), source, "ERR_CONFIG_INVALID");
  if (!json.as<Json::Object>()) {
    throw Error("ERR_CONFIG_INVALID", source + ": expected an object, got " + describe(&json));
  }
  return json;
}

Safetensors open_weights(const fs::path& directory) {
  if (is_there(directory / "model.safetensors")) return Safetensors::open(directory / "model.safetensors");
  const fs::path index = directory / "model.safetensors.index.json";
  if (is_there(index)) return Safetensors::open_sharded(index);
  throw Error("ERR_MODEL_INVALID", directory.u8string() +
                                       ": not a model directory: expected model.safetensors (or shards with "
                                       "model.safetensors.index.json), which is not there");
}

std::string replace_layer(std::string_view name, int layer) {
  std::string out(name);
  const size_t at = out.find("{}");
  return at == out.npos ? out : out.replace(at, 2, std::to_string(layer));
}

/// Does the config name a class with a classification head, whether or not the weights hold one?
bool says_classification(const Json& config) {
  const Json* json = config.find("architectures");
  const Json::Array* names = json ? json->as<Json::Array>() : nullptr;
  const std::string* first = names && !names->empty() ? names->front().as<std::string>() : nullptr;
  constexpr std::string_view suffix = "ForSequenceClassification";
  return first && first->size() >= suffix.size() &&
         first->compare(first->size() - suffix.size(), suffix.size(), suffix) == 0;
}

void require_one_label(const Json& config, const std::string& source) {
  const Json* names = config.find("id2label");
  const Json* number = config.find("num_labels");
  const int64_t* count = number ? number->as<int64_t>() : nullptr;
  const Json::Object* labels = names ? names->as<Json::Object>() : nullptr;
  const int64_t found = labels ? static_cast<int64_t>(labels->size()) : count ? *count : 1;
  if (found != 1) {
    throw Error("ERR_UNSUPPORTED_ARCHITECTURE", source + ": expected a reranker, which has 1 label (num_labels or " +
                                                    "id2label), got " + std::to_string(found));
  }
}

std::vector<int> read_exit_layers(const Json& config, int layers, const std::string& source) {
  const Json* json = config.find("exitLayers");
  const auto fail = [&](const std::string& came) {
    throw Error("ERR_CONFIG_INVALID", source + ": exitLayers: expected ascending layers from 1 to " +
                                          std::to_string(layers) + " of which the last is " + std::to_string(layers) +
                                          " (num_hidden_layers), got " + came);
  };
  const Json::Array* items = json ? json->as<Json::Array>() : nullptr;
  if (!items) fail(describe(json));
  std::vector<int> out;
  for (const Json& item : *items) {
    const int64_t* layer = item.as<int64_t>();
    if (!layer || *layer < 1 || *layer > layers) fail(describe(&item));
    if (!out.empty() && *layer <= out.back()) fail(std::to_string(*layer) + " after " + std::to_string(out.back()));
    out.push_back(static_cast<int>(*layer));
  }
  if (out.empty()) fail("none");
  if (out.back() != layers) fail("a last one of " + std::to_string(out.back()));
  return out;
}

}  // namespace

struct Checkpoint::State {
  struct Block {
    std::array<LinearSource, kProjections> linears;
    NormSource attention_norm, mlp_norm;
  };

  Architecture architecture;
  std::vector<int> exit_layers;
  std::optional<Safetensors> weights, exits;
  EmbeddingSource embedding;
  std::vector<Block> blocks;
  std::vector<HeadSource> heads;  ///< one an exit, or one for all

  void find_encoder(const Family& family, const std::string& source);
  void find_layerwise_heads(const fs::path& directory);
  void find_classification_head(const Family& family, const Json& config, const fs::path& directory);

  LinearSource linear(const std::vector<std::string>& names, int out_each, int in) const;
  NormSource norm(const std::string& name) const;

  std::string prefix;

  template <class Visit>
  void each_file_set(Visit visit) const {
    visit(*weights);
    if (exits) visit(*exits);
  }
};

LinearSource Checkpoint::State::linear(const std::vector<std::string>& names, int out_each, int in) const {
  LinearSource out;
  out.out = out_each * static_cast<int>(names.size());
  out.in = in;
  for (const std::string& name : names) {
    out.weights.push_back(weights->require(name + ".weight", {out_each, in}));
    out.biases.push_back(weights->require(name + ".bias", {out_each}));
  }
  return out;
}

NormSource Checkpoint::State::norm(const std::string& name) const {
  // Checkpoints converted from TensorFlow call them gamma and beta.
  const bool old = !weights->find(name + ".weight") && weights->find(name + ".gamma");
  const std::vector<int64_t> shape = {architecture.hidden};
  return {weights->require(name + (old ? ".gamma" : ".weight"), shape),
          weights->require(name + (old ? ".beta" : ".bias"), shape)};
}

void Checkpoint::State::find_encoder(const Family& family, const std::string& source) {
  const EncoderNames& names = family.encoder;
  const auto word = [&](std::string_view with) { return std::string(with) + std::string(names.word) + ".weight"; };
  std::string tried;
  bool found = false;
  for (std::string_view candidate : family.prefixes) {
    prefix = candidate;
    found = weights->find(word(candidate)) != nullptr;
    if (found) break;
    tried += (tried.empty() ? "" : " or ") + quote(word(candidate));
  }
  if (!found) {
    throw Error("ERR_TENSOR_MISSING", source + ": expected a tensor " + tried + ", which is not there");
  }

  const Architecture& a = architecture;
  const auto named = [&](std::string_view name, int layer = 0) { return prefix + replace_layer(name, layer); };
  const auto table = [&](std::string_view name, int rows) {
    return weights->require(named(name) + ".weight", {rows, a.hidden});
  };
  embedding = {table(names.word, a.vocab), table(names.position, a.positions), table(names.type, a.token_types),
               norm(named(names.embedding_norm))};
  blocks.reserve(static_cast<size_t>(a.layers));
  for (int l = 0; l < a.layers; ++l) {
    Block block;
    const auto at = [&](Projection which) -> LinearSource& { return block.linears[static_cast<size_t>(which)]; };
    at(Projection::query) = linear({named(names.query, l)}, a.hidden, a.hidden);
    at(Projection::key_value) = linear({named(names.key, l), named(names.value, l)}, a.hidden, a.hidden);
    at(Projection::output) = linear({named(names.output, l)}, a.hidden, a.hidden);
    at(Projection::up) = linear({named(names.up, l)}, a.intermediate, a.hidden);
    at(Projection::down) = linear({named(names.down, l)}, a.hidden, a.intermediate);
    block.attention_norm = norm(named(names.attention_norm, l));
    block.mlp_norm = norm(named(names.mlp_norm, l));
    blocks.push_back(std::move(block));
  }
}

void Checkpoint::State::find_layerwise_heads(const fs::path& directory) {
  const fs::path path = directory / "matryoshka.json";
  const std::string source = path.u8string();
  const Json config = read_config(path);
  read_integer(config, "formatVersion", 1, 1, source);
  for (const auto& [key, only] : {std::pair("head", "linear"), std::pair("compensation", "none")}) {
    const Json* json = config.find(key);
    const std::string* value = json ? json->as<std::string>() : nullptr;
    if (!value || *value != only) {
      throw Error("ERR_CONFIG_INVALID", source + ": " + key + ": expected " + quote(only) + ", got " + describe(json));
    }
  }
  exit_layers = read_exit_layers(config, architecture.layers, source);
  architecture.head = HeadKind::linear;

  const fs::path file = directory / "matryoshka.safetensors";
  if (!is_there(file)) {
    throw Error("ERR_MODEL_INVALID", directory.u8string() +
                                         ": expected matryoshka.safetensors beside matryoshka.json, which is not there");
  }
  exits = Safetensors::open(file);
  for (int layer : exit_layers) {
    const std::string name = "exit." + std::to_string(layer);
    HeadSource head;
    head.weight = exits->require(name + ".weight", {1, architecture.hidden});
    head.bias = exits->require(name + ".bias", {1});
    heads.push_back(head);
  }
}

void Checkpoint::State::find_classification_head(const Family& family, const Json& config, const fs::path& directory) {
  const std::string classifier(family.classifier);
  if (!weights->find(classifier + ".weight") && !says_classification(config)) {
    throw Error("ERR_MODEL_INVALID",
                directory.u8string() + ": an encoder without a head to score with: expected matryoshka.json and " +
                    "matryoshka.safetensors (a head per exit layer; training a matryoshka writes both) or a sequence " +
                    "classification head " + quote(classifier + ".weight"));
  }
  require_one_label(config, (directory / "config.json").u8string());
  const std::string dense = (family.dense_in_encoder ? prefix : "") + std::string(family.dense);
  const int hidden = architecture.hidden;
  heads.push_back({weights->require(dense + ".weight", {hidden, hidden}), weights->require(dense + ".bias", {hidden}),
                   weights->require(classifier + ".weight", {1, hidden}),
                   weights->require(classifier + ".bias", {1})});
  architecture.head = HeadKind::dense_tanh_linear;
  architecture.own_head_everywhere = true;
  for (int layer = 1; layer <= architecture.layers; ++layer) exit_layers.push_back(layer);
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::~Checkpoint() = default;

std::shared_ptr<const Checkpoint> Checkpoint::open(const std::string& directory) {
  const fs::path path = fs::u8path(directory);
  std::error_code none;
  if (directory.find('\0') != directory.npos || !fs::is_directory(path, none)) {
    throw Error("ERR_MODEL_NOT_FOUND", "expected a model directory, got " + quote(directory) + ", which is not one");
  }
  const fs::path config_path = path / "config.json";
  if (!is_there(config_path)) {
    throw Error("ERR_MODEL_INVALID", directory + ": not a model directory: expected config.json, which is not there");
  }
  const std::string source = config_path.u8string();
  const Json config = read_config(config_path);
  const Family& family = find_family(config, source);

  auto state = std::make_unique<State>();
  state->architecture = read_architecture(family, config, source);
  state->weights = open_weights(path);
  state->find_encoder(family, directory);
  if (is_there(path / "matryoshka.json")) {
    state->find_layerwise_heads(path);
  } else {
    state->find_classification_head(family, config, path);
  }
  return std::shared_ptr<const Checkpoint>(new Checkpoint(std::move(state)));
}

const Architecture& Checkpoint::architecture() const { return state_->architecture; }
const std::vector<int>& Checkpoint::exit_layers() const { return state_->exit_layers; }
EmbeddingSource Checkpoint::embedding() const { return state_->embedding; }

LinearSource Checkpoint::linear(int layer, Projection which) const {
  return state_->blocks.at(static_cast<size_t>(layer)).linears.at(static_cast<size_t>(which));
}

NormSource Checkpoint::norm(int layer, Site site) const {
  const State::Block& block = state_->blocks.at(static_cast<size_t>(layer));
  return site == Site::attention ? block.attention_norm : block.mlp_norm;
}

HeadSource Checkpoint::head(int exit) const {
  return state_->heads.at(state_->architecture.own_head_everywhere ? 0 : static_cast<size_t>(exit));
}

void Checkpoint::check_finite() const {
  for (const Tensor* tensor : tensors()) {
    if (const auto index = first_not_finite(*tensor)) {
      float value = 0;
      widen(*tensor, *index, 1, &value);
      throw Error("ERR_TENSOR_NOT_FINITE", "tensor " + quote(tensor->name) + ": expected finite weights, got " +
                                               (value != value ? "NaN" : value > 0 ? "infinity" : "-infinity") +
                                               " at element " + std::to_string(*index) +
                                               ": the checkpoint is damaged; download, convert or train it again");
    }
  }
}

void Checkpoint::release_pages() const {
  state_->each_file_set([](const Safetensors& set) {
    for (const auto& file : set.files()) file->release_pages();
  });
}

std::vector<const Tensor*> Checkpoint::tensors() const {
  std::vector<const Tensor*> out;
  state_->each_file_set([&](const Safetensors& set) {
    for (const auto& [name, entry] : set.entries()) {
      if (entry.usable) out.push_back(&entry.tensor);
    }
  });
  return out;
}

size_t Checkpoint::file_bytes() const {
  size_t total = 0;
  state_->each_file_set([&](const Safetensors& set) {
    for (const auto& file : set.files()) total += file->size();
  });
  return total;
}

size_t Checkpoint::parameters() const {
  size_t total = 0;
  for (const Tensor* tensor : tensors()) total += tensor->count();
  return total;
}

}  // namespace matryoshka
