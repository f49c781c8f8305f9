#include "model/checkpoint.h"

#include <array>
#include <filesystem>
#include <system_error>
#include <utility>

#include "model/config.h"
#include "model/error.h"
#include "model/family.h"
#include "model/finite.h"
#include "model/json.h"
#include "model/safetensors.h"

namespace matryoshka {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code none;
  return fs::exists(path, none);
}

Safetensors open_weights(const fs::path& directory) {
  if (is_there(directory / "model.safetensors")) return Safetensors::open(directory / "model.safetensors");
  const fs::path index = directory / "model.safetensors.index.json";
  if (is_there(index)) return Safetensors::open_sharded(index);
  throw Error("ERR_MODEL_INVALID", directory.u8string() +
                                       ": not a model directory: expected model.safetensors (or shards with "
                                       "model.safetensors.index.json), which is not there; weights in another format "
                                       "have to be converted to safetensors");
}

std::string replace_layer(std::string_view name, int layer) {
  std::string out(name);
  const size_t at = out.find("{}");
  return at == out.npos ? out : out.replace(at, 2, std::to_string(layer));
}

/// The family's prefix that the encoder's tensors carry here.
std::string find_prefix(const Family& family, const Safetensors& weights, const std::string& directory) {
  std::string tried;
  for (std::string_view prefix : family.prefixes) {
    const std::string name = std::string(prefix) + std::string(family.encoder.word) + ".weight";
    if (weights.find(name)) return std::string(prefix);
    tried += (tried.empty() ? "" : " or ") + quote(name);
  }
  throw Error("ERR_TENSOR_MISSING", directory + ": expected a tensor " + tried + ", which is not there");
}

}  // namespace

struct Checkpoint::State {
  struct Block {
    std::array<LinearSource, kProjections> linears;
    std::array<NormSource, 2> norms;  ///< by Site
  };

  Architecture architecture;
  std::vector<int> exit_layers;
  std::vector<Safetensors> files;  ///< model.safetensors or its shards, then matryoshka.safetensors if there is one
  EmbeddingSource embedding;
  std::vector<Block> blocks;
  std::vector<HeadSource> heads;  ///< one an exit, or one for all
  std::vector<CompensationSource> compensations;  ///< none, or one for each exit but the last

  const Safetensors& weights() const { return files.front(); }
  LinearSource linear(const std::vector<std::string>& names, int out_each, int in) const;
  NormSource norm(const std::string& name) const;
  void find_encoder(const Family& family, const std::string& prefix);
  void find_layerwise_heads(const fs::path& directory);
  void find_compensations(const Safetensors& exits, CompensationKind kind);
  void find_classification_head(const Family& family, const std::string& prefix, const Config& config,
                                const std::string& directory);
};

LinearSource Checkpoint::State::linear(const std::vector<std::string>& names, int out_each, int in) const {
  LinearSource out;
  out.out = out_each * static_cast<int>(names.size());
  out.in = in;
  for (const std::string& name : names) {
    out.weights.push_back(weights().require(name + ".weight", {out_each, in}));
    out.biases.push_back(weights().require(name + ".bias", {out_each}));
  }
  return out;
}

NormSource Checkpoint::State::norm(const std::string& name) const {
  // Checkpoints converted from TensorFlow call them gamma and beta.
  const bool old = !weights().find(name + ".weight") && weights().find(name + ".gamma");
  const std::vector<int64_t> shape = {architecture.hidden};
  return {weights().require(name + (old ? ".gamma" : ".weight"), shape),
          weights().require(name + (old ? ".beta" : ".bias"), shape)};
}

void Checkpoint::State::find_encoder(const Family& family, const std::string& prefix) {
  const EncoderNames& names = family.encoder;
  const Architecture& a = architecture;
  const auto named = [&](std::string_view name, int layer = 0) { return prefix + replace_layer(name, layer); };
  const auto table = [&](std::string_view name, int rows) {
    return weights().require(named(name) + ".weight", {rows, a.hidden});
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
    block.norms = {norm(named(names.attention_norm, l)), norm(named(names.mlp_norm, l))};
    blocks.push_back(std::move(block));
  }
}

void Checkpoint::State::find_layerwise_heads(const fs::path& directory) {
  const Config config(directory / "matryoshka.json");
  exit_layers = read_exit_layers(config, architecture.layers);
  architecture.head = read_head(config);
  const fs::path file = directory / "matryoshka.safetensors";
  if (!is_there(file)) {
    throw Error("ERR_MODEL_INVALID",
                directory.u8string() + ": expected matryoshka.safetensors beside matryoshka.json, which is not there");
  }
  const Safetensors& exits = files.emplace_back(Safetensors::open(file));
  const std::vector<double> carry = read_carry(config, exit_layers.size());
  for (int layer : exit_layers) {
    const std::string name = "exit." + std::to_string(layer);
    HeadSource head;
    head.carry = carry[heads.size()];
    head.weight = exits.require(name + ".weight", {1, architecture.hidden});
    head.bias = exits.require(name + ".bias", {1});
    if (architecture.head == HeadKind::query)
      head.query = exits.require(name + ".query.weight", {architecture.hidden, architecture.hidden});
    heads.push_back(head);
  }
  find_compensations(exits, read_compensation(config));
}

void Checkpoint::State::find_compensations(const Safetensors& exits, CompensationKind kind) {
  if (kind == CompensationKind::none) return;
  for (size_t exit = 0; exit + 1 < exit_layers.size(); ++exit) {
    const std::string name = "compensation." + std::to_string(exit_layers[exit]);
    CompensationSource source;
    int64_t units = 0;
    if (kind == CompensationKind::mlp) {
      const Safetensors::Entry* bias = exits.find(name + ".hidden.bias");
      units = bias && bias->tensor.shape.size() == 1 ? bias->tensor.shape[0] : 1;
      source.hidden_bias = exits.require(name + ".hidden.bias", {units});
      source.hidden_weight = exits.require(name + ".hidden.weight", {units, architecture.hidden});
    }
    source.output_weight = exits.require(name + ".output.weight", {2, units + 1});
    source.output_bias = exits.require(name + ".output.bias", {2});
    compensations.push_back(source);
  }
}

void Checkpoint::State::find_classification_head(const Family& family, const std::string& prefix, const Config& config,
                                                 const std::string& directory) {
  const std::string classifier(family.classifier);
  if (!weights().find(classifier + ".weight") && !says_classification(config)) {
    throw Error("ERR_MODEL_INVALID",
                directory + ": an encoder without a head to score with: expected matryoshka.json and " +
                    "matryoshka.safetensors (a head per exit layer; training a matryoshka writes both) or a sequence " +
                    "classification head " + quote(classifier + ".weight"));
  }
  require_one_label(config);
  const std::string dense = (family.dense_in_encoder ? prefix : "") + std::string(family.dense);
  const int hidden = architecture.hidden;
  heads.push_back({weights().require(dense + ".weight", {hidden, hidden}), weights().require(dense + ".bias", {hidden}),
                   weights().require(classifier + ".weight", {1, hidden}),
                   weights().require(classifier + ".bias", {1}), nullptr});
  architecture.head = HeadKind::dense_tanh_linear;
  architecture.own_head_everywhere = true;
  for (int layer = 1; layer <= architecture.layers; ++layer) exit_layers.push_back(layer);
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::~Checkpoint() = default;

std::shared_ptr<const Checkpoint> Checkpoint::open(const std::string& directory) { return open(directory, true); }
std::shared_ptr<const Checkpoint> Checkpoint::open_encoder(const std::string& directory) { return open(directory, false); }

std::shared_ptr<const Checkpoint> Checkpoint::open(const std::string& directory, bool needs_head) {
  const fs::path path = fs::u8path(directory);
  std::error_code none;
  if (directory.find('\0') != directory.npos || !fs::is_directory(path, none)) {
    throw Error("ERR_MODEL_NOT_FOUND",
                directory + ": expected a model directory, which " + (is_there(path) ? "this is not" : "is not there"));
  }
  if (!is_there(path / "config.json")) {
    throw Error("ERR_MODEL_INVALID", directory + ": not a model directory: expected config.json, which is not there");
  }
  const Config config(path / "config.json");
  const Family& family = find_family(config);

  auto state = std::make_unique<State>();
  state->architecture = read_architecture(family, config);
  state->files.reserve(2);
  state->files.push_back(open_weights(path));
  const std::string prefix = find_prefix(family, state->weights(), directory);
  state->find_encoder(family, prefix);
  if (is_there(path / "matryoshka.json")) {
    state->find_layerwise_heads(path);
  } else if (needs_head) {
    state->find_classification_head(family, prefix, config, directory);
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
  return state_->blocks.at(static_cast<size_t>(layer)).norms.at(static_cast<size_t>(site));
}

HeadSource Checkpoint::head(int exit) const {
  return state_->heads.at(state_->architecture.own_head_everywhere ? 0 : static_cast<size_t>(exit));
}

bool Checkpoint::compensated() const { return !state_->compensations.empty(); }
CompensationSource Checkpoint::compensation(int exit) const { return state_->compensations.at(static_cast<size_t>(exit)); }

void Checkpoint::check_finite() const {
  for (const Tensor* tensor : tensors()) {
    if (const auto index = first_not_finite(*tensor)) {
      float value = 0;
      widen(*tensor, *index, 1, &value);
      throw Error("ERR_TENSOR_NOT_FINITE", "tensor " + quote(tensor->name) + ": expected finite weights, got " +
                                               (value != value ? "NaN"
                                                : value > 0    ? "infinity"
                                                               : "-infinity") +
                                               " at element " + std::to_string(*index) +
                                               ": the checkpoint is damaged; download, convert or train it again");
    }
  }
}

void Checkpoint::release_pages() const {
  for (const Safetensors& set : state_->files) {
    for (const auto& file : set.files()) file->release_pages();
  }
}

std::vector<const Tensor*> Checkpoint::tensors() const {
  std::vector<const Tensor*> out;
  for (const Safetensors& set : state_->files) {
    for (const auto& [name, entry] : set.entries()) {
      if (entry.usable) out.push_back(&entry.tensor);
    }
  }
  return out;
}

size_t Checkpoint::file_bytes() const {
  size_t total = 0;
  for (const Safetensors& set : state_->files) {
    for (const auto& file : set.files()) total += file->size();
  }
  return total;
}

size_t Checkpoint::parameters() const {
  size_t total = 0;
  for (const Tensor* tensor : tensors()) total += tensor->count();
  return total;
}

}  // namespace matryoshka
