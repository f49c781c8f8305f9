#include "model/checkpoint.h"

#ifndef _WIN32
#include <sys/stat.h>
#endif

#include <filesystem>

#include "check.h"
#include "tiny_checkpoint.h"

namespace matryoshka {
namespace {

namespace fs = std::filesystem;
using tiny::Directory;
using tiny::Files;
using tiny::Model;

std::shared_ptr<const Checkpoint> open(const Files& files) { return Checkpoint::open(Directory(files).path()); }
std::shared_ptr<const Checkpoint> open(const Model& model) { return open(model.files()); }

/// A tiny layer-wise model with one text replaced in config.json or matryoshka.json.
std::shared_ptr<const Checkpoint> open_with(const std::string& from, const std::string& to,
                                            Model model = tiny::layerwise_bert()) {
  model.replace(from, to);
  return open(model);
}

/// A tiny layer-wise model without one of its files.
std::shared_ptr<const Checkpoint> open_without(const std::string& file) {
  Files files = tiny::layerwise_bert().files();
  files.erase(file);
  return open(files);
}

float first_value(const Tensor* tensor) {
  float out = 0;
  widen(*tensor, 0, 1, &out);
  return out;
}

TEST("a layer-wise BERT has a linear head at each of its exit layers") {
  const auto checkpoint = open(tiny::layerwise_bert());
  const Architecture& a = checkpoint->architecture();
  CHECK_EQ(a.family, "bert");
  CHECK_EQ(a.layers, 2);
  CHECK_EQ(a.hidden, 8);
  CHECK_EQ(a.heads, 2);
  CHECK_EQ(a.head_dim, 4);
  CHECK_EQ(a.intermediate, 16);
  CHECK_EQ(a.vocab, 12);
  CHECK_EQ(a.token_types, 2);
  CHECK_EQ(a.max_tokens(), 10);
  CHECK_EQ(a.norm_eps, 1e-12f);
  CHECK(a.activation == Activation::gelu && a.head == HeadKind::linear && !a.own_head_everywhere);
  CHECK(checkpoint->exit_layers() == std::vector<int>({1, 2}));
  CHECK_EQ(checkpoint->head(0).weight->name, "exit.1.weight");
  CHECK_EQ(checkpoint->head(1).bias->name, "exit.2.bias");
  CHECK(!checkpoint->head(0).dense_weight);
}

TEST("heads may be conditioned on the query, by a matrix that must be there") {
  auto model = tiny::layerwise_bert();
  model.replace("\"linear\"", "\"query\"");
  CHECK_THROWS(open(model.files()), "ERR_TENSOR_MISSING", "exit.1.query.weight");
  for (const char* name : {"exit.1.query.weight", "exit.2.query.weight"}) model.exits.push_back({name, "F32", {8, 8}, std::string(256, '\0')});
  const auto checkpoint = open(model);
  CHECK(checkpoint->architecture().head == HeadKind::query);
  CHECK_EQ(checkpoint->head(1).query->name, "exit.2.query.weight");
}

TEST("exits may be some of the layers") {
  const auto checkpoint = open_with("[1, 2]", "[2]");
  CHECK(checkpoint->exit_layers() == std::vector<int>({2}));
  CHECK_EQ(checkpoint->head(0).weight->name, "exit.2.weight");
}

TEST("a BERT classifier scores every layer with its own head, which is its pooler and classifier") {
  const auto checkpoint = open(tiny::bert_classifier());
  CHECK(checkpoint->architecture().head == HeadKind::dense_tanh_linear);
  CHECK(checkpoint->architecture().own_head_everywhere);
  CHECK(checkpoint->exit_layers() == std::vector<int>({1, 2}));
  for (int exit : {0, 1}) {
    CHECK_EQ(checkpoint->head(exit).dense_weight->name, "bert.pooler.dense.weight");
    CHECK_EQ(checkpoint->head(exit).bias->name, "classifier.bias");
  }
}

TEST("an XLM-RoBERTa classifier has its own head and positions that start after the padding's") {
  for (const char* type : {"xlm-roberta", "roberta"}) {
    const auto checkpoint =
        open_with("\"xlm-roberta\"", "\"" + std::string(type) + "\"", tiny::xlm_roberta_classifier());
    CHECK_EQ(checkpoint->architecture().family, type);
    CHECK_EQ(checkpoint->architecture().position_offset, 2);
    CHECK_EQ(checkpoint->architecture().max_tokens(), 8);
    CHECK_EQ(checkpoint->head(1).dense_bias->name, "classifier.dense.bias");
    CHECK_EQ(checkpoint->head(1).weight->name, "classifier.out_proj.weight");
  }
}

TEST("the tensors of a block are found by role, values stacked below keys") {
  const auto checkpoint = open(tiny::bert_classifier());
  const LinearSource key_value = checkpoint->linear(1, Projection::key_value);
  CHECK_EQ(key_value.out, 16);
  CHECK_EQ(key_value.in, 8);
  CHECK_EQ(key_value.weights.size(), 2u);
  CHECK_EQ(key_value.weights[0]->name, "bert.encoder.layer.1.attention.self.key.weight");
  CHECK_EQ(key_value.biases[1]->name, "bert.encoder.layer.1.attention.self.value.bias");
  CHECK_EQ(checkpoint->linear(0, Projection::query).weights[0]->name,
           "bert.encoder.layer.0.attention.self.query.weight");
  CHECK_EQ(checkpoint->linear(0, Projection::output).weights[0]->name,
           "bert.encoder.layer.0.attention.output.dense.weight");
  CHECK_EQ(checkpoint->linear(0, Projection::up).out, 16);
  CHECK_EQ(checkpoint->linear(0, Projection::down).in, 16);
  CHECK_EQ(checkpoint->linear(0, Projection::down).weights[0]->name, "bert.encoder.layer.0.output.dense.weight");
  CHECK_EQ(checkpoint->norm(1, Site::attention).weight->name, "bert.encoder.layer.1.attention.output.LayerNorm.weight");
  CHECK_EQ(checkpoint->norm(1, Site::mlp).bias->name, "bert.encoder.layer.1.output.LayerNorm.bias");
  CHECK_EQ(checkpoint->embedding().word->name, "bert.embeddings.word_embeddings.weight");
  CHECK_EQ(checkpoint->embedding().norm.weight->name, "bert.embeddings.LayerNorm.weight");
}

TEST("an exit's logit carries nothing of the exit before unless matryoshka.json says how much") {
  CHECK_EQ(open(tiny::layerwise_bert())->head(1).carry, 0.0);
  const auto checkpoint = open_with("\"none\"", "\"none\", \"carry\": [0, 0.3]");
  CHECK_EQ(checkpoint->head(0).carry, 0.0);
  CHECK_EQ(checkpoint->head(1).carry, 0.3);
}

TEST("an encoder is found with or without its family's prefix") {
  Model model = tiny::bert_classifier();
  for (auto& tensor : model.weights) {
    if (tensor.name.rfind("bert.", 0) == 0) tensor.name.erase(0, 5);
  }
  CHECK_EQ(open(model)->head(0).dense_weight->name, "pooler.dense.weight");
}

TEST("F32, F16 and BF16 weights hold the same values") {
  for (const char* dtype : {"F32", "F16", "BF16"}) {
    const auto checkpoint = open(tiny::layerwise_bert(dtype));
    CHECK_EQ(first_value(checkpoint->embedding().word), -0.875f);
    checkpoint->check_finite();
  }
}

TEST("the old layer norm names gamma and beta are accepted") {
  Model model = tiny::bert_classifier();
  for (auto& tensor : model.weights) {
    const size_t at = tensor.name.find("LayerNorm.");
    if (at != std::string::npos) tensor.name.replace(at + 10, 6, tensor.name[at + 10] == 'w' ? "gamma" : "beta");
  }
  CHECK_EQ(open(model)->norm(0, Site::mlp).bias->name, "bert.encoder.layer.0.output.LayerNorm.beta");
}

TEST("tensors that no layer uses are ignored, whatever their dtype") {
  Model model = tiny::layerwise_bert();
  model.weights.push_back({"embeddings.position_ids", "I64", {1, 10}, std::string(80, '\0')});
  model.weights.push_back({"quantized", "I8", {3}, "abc"});
  const auto checkpoint = open(model);
  checkpoint->check_finite();
  for (const Tensor* tensor : checkpoint->tensors()) CHECK(tensor->name != "embeddings.position_ids");
}

TEST("weights may lie unaligned in the file") {
  Model model = tiny::layerwise_bert("F32");
  model.weights.insert(model.weights.begin(), {"odd", "I8", {1}, "x"});
  const auto checkpoint = open(model);
  CHECK_EQ(first_value(checkpoint->embedding().word), -0.875f);
  checkpoint->check_finite();
}

TEST("releasing the pages keeps the values") {
  const auto checkpoint = open(tiny::layerwise_bert());
  checkpoint->release_pages();
  CHECK_EQ(first_value(checkpoint->embedding().word), -0.875f);
}

TEST("file bytes and parameters are those of all weight files") {
  const Files files = tiny::layerwise_bert().files();
  const auto checkpoint = open(files);
  CHECK_EQ(checkpoint->file_bytes(), files.at("model.safetensors").size() + files.at("matryoshka.safetensors").size());
  CHECK_EQ(checkpoint->parameters(), (12u + 10 + 2 + 2) * 8 + 2 * (4 * 72 + 144 + 136 + 4 * 8) + 2 * 9);
}

TEST("activations go by their Hugging Face names") {
  for (const auto& [name, activation] :
       {std::pair("gelu_new", Activation::gelu_tanh), std::pair("gelu_pytorch_tanh", Activation::gelu_tanh),
        std::pair("gelu_fast", Activation::gelu_tanh), std::pair("relu", Activation::relu)}) {
    CHECK(open_with("\"gelu\"", "\"" + std::string(name) + "\"")->architecture().activation == activation);
  }
  CHECK_THROWS(open_with("\"gelu\"", "\"silu\""), "ERR_UNSUPPORTED_ARCHITECTURE", "got \"silu\"");
}

TEST("a directory that is not there is named") {
  CHECK_THROWS(Checkpoint::open("no/such/model"), "ERR_MODEL_NOT_FOUND",
               "no/such/model: expected a model directory, which is not there");
  CHECK_THROWS_CODE(Checkpoint::open(""), "ERR_MODEL_NOT_FOUND");
  CHECK_THROWS_CODE(Checkpoint::open(std::string("models\0x", 8)), "ERR_MODEL_NOT_FOUND");
  const Directory directory(Files{{"file", "x"}});
  CHECK_THROWS(Checkpoint::open(directory.path() + "/file"), "ERR_MODEL_NOT_FOUND", "this is not");
}

TEST("a directory that is not a model says which file it lacks") {
  CHECK_THROWS(open(Files{}), "ERR_MODEL_INVALID", "expected config.json");
  CHECK_THROWS(open_without("config.json"), "ERR_MODEL_INVALID", "expected config.json");
  CHECK_THROWS(open_without("model.safetensors"), "ERR_MODEL_INVALID", "expected model.safetensors");
  CHECK_THROWS(open_without("matryoshka.safetensors"), "ERR_MODEL_INVALID", "expected matryoshka.safetensors");
}

TEST("a pipe or a directory in a file's place is refused, without waiting for a writer") {
#ifdef _WIN32
  SKIP("named pipes are no files here");
#else
  const Directory directory(tiny::layerwise_bert().files());
  for (const char* name : {"matryoshka.safetensors", "model.safetensors", "config.json"}) {
    const std::string path = directory.path() + "/" + name;
    fs::remove(path);
    CHECK_EQ(mkfifo(path.c_str(), 0600), 0);
    CHECK_THROWS(Checkpoint::open(directory.path()), "ERR_FILE", "not a regular file");
    fs::remove(path);
    fs::create_directory(path);
    CHECK_THROWS(Checkpoint::open(directory.path()), "ERR_FILE", "not a regular file");
  }
#endif
}

TEST("an encoder without any head says what is missing and that training makes it") {
  CHECK_THROWS(open_without("matryoshka.json"), "ERR_MODEL_INVALID", "training a matryoshka writes both");
}

TEST("a family or feature that the engine does not run is refused by name") {
  CHECK_THROWS(open_with("\"bert\"", "\"gpt2\""), "ERR_UNSUPPORTED_ARCHITECTURE",
               "model_type: this engine runs bert, xlm-roberta, roberta, got \"gpt2\"");
  CHECK_THROWS(open_with("absolute", "relative_key"), "ERR_UNSUPPORTED_ARCHITECTURE", "relative_key");
  CHECK_THROWS(open_with("\"vocab_size\"", "\"is_decoder\": true, \"vocab_size\""), "ERR_UNSUPPORTED_ARCHITECTURE",
               "is_decoder");
  CHECK_THROWS(open_with("{\"0\": \"LABEL_0\"}", "{\"0\": \"a\", \"1\": \"b\"}", tiny::bert_classifier()),
               "ERR_UNSUPPORTED_ARCHITECTURE", "1 label, got 2");
}

TEST("config.json that is damaged, incomplete or out of range is refused, with the key named") {
  CHECK_THROWS(open_with("{\"arch", "\"arch"), "ERR_CONFIG_INVALID", "not valid JSON");
  CHECK_THROWS(open(Files{{"config.json", "[]"}}), "ERR_CONFIG_INVALID", "expected an object, got a list");
  CHECK_THROWS(open(Files{{"config.json", std::string(17 << 20, ' ')}}), "ERR_CONFIG_INVALID", "got 17825792");
  CHECK_THROWS(open(Files{{"config.json", ""}}), "ERR_CONFIG_INVALID", "not valid JSON");
  CHECK_THROWS(open_with("\"model_type\"", "\"kind\""), "ERR_CONFIG_INVALID", "model_type: expected");
  CHECK_THROWS(open_with("\"model_type\": \"bert\"", "\"model_type\": 7"), "ERR_CONFIG_INVALID", "got 7");
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size",
                          "max_position_embeddings", "type_vocab_size"}) {
    const std::string name = "\"" + std::string(key) + "\": ", expected = std::string(key) + ": expected an integer";
    CHECK_THROWS(open_with(name, "\"x\": "), "ERR_CONFIG_INVALID", expected + " from 1");
    for (const char* value :
         {"0", "-1", "1.5", "\"8\"", "null", "true", "[8]", "1e3", "9223372036854775807", "1e300"}) {
      CHECK_THROWS(open_with(name, name + value + ", \"x\": "), "ERR_CONFIG_INVALID", expected);
    }
  }
  CHECK_THROWS(open_with("\"num_attention_heads\": 2", "\"num_attention_heads\": 3"), "ERR_CONFIG_INVALID",
               "num_attention_heads: expected a divisor of hidden_size 8, got 3");
  CHECK_THROWS(open_with("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 256"), "ERR_CONFIG_INVALID",
               "from 1 to 255");
  for (const char* epsilon : {"-1e-12", "2", "\"1e-12\"", "null"}) {
    CHECK_THROWS(open_with("1e-12", epsilon), "ERR_CONFIG_INVALID", "layer_norm_eps: expected a number");
  }
  CHECK_THROWS(open_with("\"gelu\"", "3"), "ERR_CONFIG_INVALID", "hidden_act: expected a string, got 3");
  for (const char* pad : {"-1", "12", "null", "1.0"}) {
    CHECK_THROWS(
        open_with("\"pad_token_id\": 1", "\"pad_token_id\": " + std::string(pad), tiny::xlm_roberta_classifier()),
        "ERR_CONFIG_INVALID", "pad_token_id");
  }
  CHECK_THROWS(open_with("\"pad_token_id\": 1", "\"pad_token_id\": 9", tiny::xlm_roberta_classifier()),
               "ERR_CONFIG_INVALID", "max_position_embeddings: expected more than pad_token_id + 1 = 10, got 10");
}

TEST("matryoshka.json that is damaged, of another version or kind is refused, with the key named") {
  CHECK_THROWS(open_with("{\"formatVersion\"", "[\"formatVersion\""), "ERR_CONFIG_INVALID",
               "matryoshka.json: not valid");
  CHECK_THROWS(open_with("\"formatVersion\": 1", "\"formatVersion\": 2"), "ERR_CONFIG_INVALID", "formatVersion");
  CHECK_THROWS(open_with("\"linear\"", "\"mlp\""), "ERR_CONFIG_INVALID", "head: expected \"linear\" or \"query\", got \"mlp\"");
  CHECK_THROWS(open_with("\"none\"", "\"linear\""), "ERR_CONFIG_INVALID",
               "compensation: expected \"none\", \"affine\" or \"mlp\", got \"linear\"");
  CHECK_THROWS(open_with("\"none\"", "\"affine\""), "ERR_TENSOR_MISSING", "compensation.1.output.weight");
  CHECK_THROWS(open_with("\"none\"", "\"mlp\""), "ERR_TENSOR_MISSING", "compensation.1.hidden.bias");
  for (const char* carry : {"7", "[]", "[0]", "[0, 0.3, 0.3]", "[0.3, 0.3]", "[0, 1]", "[0, -0.1]", "[0, \"0.3\"]", "[0, null]"})
    CHECK_THROWS(open_with("\"none\"", "\"none\", \"carry\": " + std::string(carry)), "ERR_CONFIG_INVALID", "carry: expected a number of at least 0");
  for (const char* layers : {"[]", "7", "[1]", "[0, 2]", "[1, 2, 3]", "[2, 1]", "[1, 1, 2]", "[1, 2, 2]", "[1.0, 2]",
                             "[\"1\", 2]", "[-1, 2]", "null", "[1, 4294967298]"}) {
    CHECK_THROWS(open_with("[1, 2]", layers), "ERR_CONFIG_INVALID",
                 "exitLayers: expected ascending layers from 1 to 2");
  }
}

TEST("each tensor that is needed is missed by name") {
  for (const Model& whole : {tiny::layerwise_bert(), tiny::bert_classifier(), tiny::xlm_roberta_classifier()}) {
    for (const auto* set : {&whole.weights, &whole.exits}) {
      for (const tiny::TensorData& tensor : *set) {
        Model model = whole;
        model.remove(tensor.name);
        CHECK_THROWS(open(model), "ERR_TENSOR_MISSING", "\"" + tensor.name + "\"");
      }
    }
  }
}

TEST("each tensor of another shape than config.json says is refused with both shapes") {
  for (const Model& whole : {tiny::layerwise_bert(), tiny::bert_classifier(), tiny::xlm_roberta_classifier()}) {
    for (const auto* set : {&whole.weights, &whole.exits}) {
      for (const tiny::TensorData& tensor : *set) {
        Model model = whole;
        auto& spoiled = model.tensor(tensor.name);
        spoiled.shape.insert(spoiled.shape.begin(), 1);
        CHECK_THROWS(open(model), "ERR_TENSOR_SHAPE", "\"" + tensor.name + "\": expected shape [");
      }
    }
  }
  Model turned = tiny::layerwise_bert();
  turned.tensor("encoder.layer.0.intermediate.dense.weight").shape = {8, 16};
  CHECK_THROWS(open(turned), "ERR_TENSOR_SHAPE", "expected shape [16, 8] from config.json, got [8, 16]");
}

TEST("config.json that disagrees with the tensors is refused") {
  for (const char* key :
       {"hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings", "type_vocab_size"}) {
    const std::string name = "\"" + std::string(key) + "\": ";
    CHECK_THROWS_CODE(open_with(name, name + "4, \"x\": "), "ERR_TENSOR_SHAPE");
  }
  CHECK_THROWS(open_with("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"), "ERR_TENSOR_MISSING", "layer.2.");
}

TEST("each needed tensor of a dtype other than F32, F16 or BF16 is refused") {
  const Model whole = tiny::layerwise_bert();
  for (const auto* set : {&whole.weights, &whole.exits}) {
    for (const tiny::TensorData& tensor : *set) {
      const size_t count = tensor.bytes.size() / (tensor.dtype == "F32" ? 4 : 2);
      for (const auto& [dtype, size] : {std::pair("I64", 8), std::pair("I8", 1), std::pair("F64", 8)}) {
        Model model = whole;
        auto& spoiled = model.tensor(tensor.name);
        spoiled.dtype = dtype;
        spoiled.bytes.assign(count * static_cast<size_t>(size), '\0');
        CHECK_THROWS(open(model), "ERR_TENSOR_DTYPE", "expected F32, F16 or BF16, got \"" + std::string(dtype) + "\"");
      }
    }
  }
}

TEST("weight files cut anywhere are refused") {
  const Files whole = tiny::layerwise_bert().files();
  for (const char* name : {"model.safetensors", "matryoshka.safetensors"}) {
    const std::string& content = whole.at(name);
    for (size_t size = 0; size < content.size(); size += 1 + content.size() / 97) {
      Files files = whole;
      files[name].resize(size);
      CHECK_THROWS_CODE(open(files), "ERR_SAFETENSORS_INVALID");
    }
  }
}

TEST("NaN and infinity in any weight are named by tensor and element") {
  Model model = tiny::layerwise_bert("F16");
  model.tensor("encoder.layer.1.output.dense.weight").bytes.replace(2 * 5, 2, std::string("\x00\xFC", 2));
  CHECK_THROWS(open(model)->check_finite(), "ERR_TENSOR_NOT_FINITE",
               "tensor \"encoder.layer.1.output.dense.weight\": expected finite weights, got -infinity at element 5");
  model = tiny::layerwise_bert("BF16");
  model.tensor("exit.2.bias").bytes = std::string("\x01\x00\x80\x7F", 4);
  CHECK_THROWS(open(model)->check_finite(), "ERR_TENSOR_NOT_FINITE",
               "\"exit.2.bias\": expected finite weights, got NaN");
}

TEST("sharded weights with an index read like one file") {
  const auto checkpoint = open(tiny::layerwise_bert().sharded_files());
  CHECK_EQ(first_value(checkpoint->embedding().word), -0.875f);
  checkpoint->check_finite();
  CHECK_EQ(checkpoint->parameters(), open(tiny::layerwise_bert())->parameters());
}

TEST("a broken index of shards is refused") {
  const char* const index = "model.safetensors.index.json";
  const char* const shard = "model-00002-of-00002.safetensors";
  const auto with_index = [&](const std::string& text) {
    Files out = tiny::layerwise_bert().sharded_files();
    out[index] = text;
    return open(out);
  };
  CHECK_THROWS(with_index("{"), "ERR_SAFETENSORS_INVALID", "not valid JSON");
  CHECK_THROWS(with_index("{}"), "ERR_SAFETENSORS_INVALID", "expected a weight_map");
  CHECK_THROWS(with_index("{\"weight_map\": {}}"), "ERR_SAFETENSORS_INVALID", "expected a weight_map");
  CHECK_THROWS(with_index("{\"weight_map\": []}"), "ERR_SAFETENSORS_INVALID", "got a list");
  for (const char* name : {"\"../model.safetensors\"", "\"/etc/passwd\"", "\"..\"", "\".\"", "\"\"", "\"a/b\"",
                           "\"a\\\\b\"", "\"C:x\"", "\"a\\u0000b\"", "7", "null"}) {
    CHECK_THROWS(with_index("{\"weight_map\": {\"a\": " + std::string(name) + "}}"), "ERR_SAFETENSORS_INVALID",
                 "expected the name of a file beside the index");
  }
  CHECK_THROWS(with_index("{\"weight_map\": {\"a\": \"none.safetensors\"}}"), "ERR_MODEL_INVALID", "none.safetensors");
  CHECK_THROWS(with_index("{\"weight_map\": {\"a\": \"" + std::string(shard) + "\"}}"), "ERR_TENSOR_MISSING", "\"a\"");

  Files truncated = tiny::layerwise_bert().sharded_files();
  truncated[shard].pop_back();
  CHECK_THROWS(open(truncated), "ERR_SAFETENSORS_INVALID", shard);
  Files doubled = tiny::layerwise_bert().sharded_files();
  doubled[shard] = doubled["model-00001-of-00002.safetensors"];
  CHECK_THROWS(open(doubled), "ERR_SAFETENSORS_INVALID", "in another shard already");
}

TEST("the golden checkpoints open, and those of families to come are refused by name") {
  const fs::path goldens = fs::path(MATRYOSHKA_ROOT) / ".." / "shared" / "goldens";
  if (!fs::is_directory(goldens)) SKIP("no ../shared/goldens beside the repository");
  for (const char* name : {"bert", "xlm-roberta"}) {
    const auto checkpoint = Checkpoint::open((goldens / name).u8string());
    CHECK(checkpoint->exit_layers() == std::vector<int>({1, 2, 3, 4}));
    CHECK_EQ(checkpoint->architecture().max_tokens(), 128);
    checkpoint->check_finite();
  }
  for (const char* name : {"gemma2-lightweight", "minicpm-layerwise", "mistral-matryoshka"}) {
    CHECK_THROWS(Checkpoint::open((goldens / name).u8string()), "ERR_UNSUPPORTED_ARCHITECTURE", "model_type");
  }
}

}  // namespace
}  // namespace matryoshka
