#include "random_model.h"

#include <cmath>
#include <cstring>

namespace matryoshka::check {
namespace {

class Weights {
 public:
  explicit Weights(uint32_t seed) : random_(seed) {}

  void add(const std::string& name, std::vector<int64_t> shape, float mean, float deviation) {
    size_t count = 1;
    for (const int64_t d : shape) count *= static_cast<size_t>(d);
    std::normal_distribution<float> normal(mean, deviation);
    tiny::TensorData tensor{name, "F32", std::move(shape), std::string(count * sizeof(float), '\0')};
    for (size_t i = 0; i < count; ++i) {
      const float value = normal(random_);
      std::memcpy(&tensor.bytes[i * sizeof value], &value, sizeof value);
    }
    tensors.push_back(std::move(tensor));
  }
  void linear(const std::string& name, int out, int in) {
    add(name + ".weight", {out, in}, 0, 1.5f / std::sqrt(static_cast<float>(in)));
    add(name + ".bias", {out}, 0, 0.1f);
  }
  void norm(const std::string& name, int width) {
    add(name + ".weight", {width}, 1, 0.2f);
    add(name + ".bias", {width}, 0, 0.1f);
  }

  std::vector<tiny::TensorData> tensors;

 private:
  std::mt19937 random_;
};

tiny::Files files(const Shape& s, uint32_t seed) {
  Weights weights(seed), exits(seed + 1);
  weights.add("embeddings.word_embeddings.weight", {s.vocab, s.hidden}, 0, 1);
  weights.add("embeddings.position_embeddings.weight", {s.positions, s.hidden}, 0, 0.3f);
  weights.add("embeddings.token_type_embeddings.weight", {2, s.hidden}, 0, 0.3f);
  weights.norm("embeddings.LayerNorm", s.hidden);
  std::string layers, carry;
  for (int l = 0; l < s.layers; ++l) {
    const std::string at = "encoder.layer." + std::to_string(l) + ".";
    for (const char* which : {"query", "key", "value"}) weights.linear(at + "attention.self." + which, s.hidden, s.hidden);
    weights.linear(at + "attention.output.dense", s.hidden, s.hidden);
    weights.norm(at + "attention.output.LayerNorm", s.hidden);
    weights.linear(at + "intermediate.dense", s.intermediate, s.hidden);
    weights.linear(at + "output.dense", s.hidden, s.intermediate);
    weights.norm(at + "output.LayerNorm", s.hidden);
    exits.linear("exit." + std::to_string(l + 1), 1, s.hidden);
    if (s.query_heads) exits.add("exit." + std::to_string(l + 1) + ".query.weight", {s.hidden, s.hidden}, 0, 0.15f / std::sqrt(static_cast<float>(s.hidden)));
    const std::string exit = "compensation." + std::to_string(l + 1);
    if (s.compensation > 0 && l + 1 < s.layers) exits.linear(exit + ".hidden", s.compensation, s.hidden);
    if (s.compensation >= 0 && l + 1 < s.layers) exits.linear(exit + ".output", 2, s.compensation + 1);
    layers += (l ? "," : "") + std::to_string(l + 1);
    carry += l ? "," + std::to_string(s.carry) : "0";
  }
  const auto number = [](int value) { return std::to_string(value); };
  return {{"config.json", R"({"model_type":"bert","hidden_size":)" + number(s.hidden) + R"(,"num_hidden_layers":)" + number(s.layers) +
                              R"(,"num_attention_heads":)" + number(s.heads) + R"(,"intermediate_size":)" + number(s.intermediate) +
                              R"(,"vocab_size":)" + number(s.vocab) + R"(,"max_position_embeddings":)" + number(s.positions) +
                              R"(,"type_vocab_size":2,"hidden_act":"gelu","layer_norm_eps":1e-12,"pad_token_id":0})"},
          {"matryoshka.json", R"({"formatVersion":1,"exitLayers":[)" + layers + R"(],"carry":[)" + carry + R"(],"head":")" + (s.query_heads ? "query" : "linear") + R"(","compensation":")" +
                                  (s.compensation < 0 ? "none" : s.compensation ? "mlp" : "affine") + R"("})"},
          {"model.safetensors", tiny::safetensors(weights.tensors)},
          {"matryoshka.safetensors", tiny::safetensors(exits.tensors)}};
}

}  // namespace

RandomModel::RandomModel(const Shape& shape, uint32_t seed) : directory_(files(shape, seed)), checkpoint_(Checkpoint::open(directory_.path())) {}

TokenBatch random_batch(std::mt19937& random, const Shape& shape, const std::vector<int>& lists, int longest) {
  TokenBatch batch;
  batch.cu_seqlens = {0};
  batch.list_offsets = {0};
  for (const int size : lists) {
    for (int i = 0; i < size; ++i) {
      const int length = 1 + static_cast<int>(random() % static_cast<uint32_t>(longest));
      for (int t = 0; t < length; ++t) {
        batch.token_ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(shape.vocab)));
        batch.type_ids.push_back(t < length / 2 ? 0 : 1);
      }
      batch.cu_seqlens.push_back(batch.cu_seqlens.back() + length);
    }
    batch.list_offsets.push_back(batch.list_offsets.back() + size);
  }
  return batch;
}

}  // namespace matryoshka::check
