// Small valid checkpoints made in memory, for tests to spoil one thing of and for the fuzzer to start from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace matryoshka::tiny {

struct TensorData {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string bytes;  ///< little-endian, row-major
};

/// A safetensors file: header length, header, data.
std::string safetensors(const std::vector<TensorData>& tensors);
/// The same with a header of the caller's.
std::string safetensors(const std::string& header, const std::string& data);

/// File contents by name.
using Files = std::map<std::string, std::string>;

/// 2 layers × 8, 2 heads, MLP 16, 12 tokens, 10 positions, 2 token types.
struct Model {
  std::string config;
  std::string matryoshka;           ///< matryoshka.json, or empty
  std::vector<TensorData> weights;  ///< model.safetensors
  std::vector<TensorData> exits;    ///< matryoshka.safetensors, written with matryoshka.json

  TensorData& tensor(const std::string& name);
  void remove(const std::string& name);
  /// Replaces the one occurrence of `from` in config and matryoshka.json.
  void replace(const std::string& from, const std::string& to);
  Files files() const;
  /// The weights as two shards and an index.
  Files sharded_files() const;
};

/// Exits after both layers; encoder without a prefix.
Model layerwise_bert(const std::string& dtype = "F16");
/// bert.pooler + classifier.
Model bert_classifier(const std::string& dtype = "F32");
/// classifier.dense + classifier.out_proj, positions from pad_token_id + 1 = 2.
Model xlm_roberta_classifier(const std::string& dtype = "BF16");

/// A directory of its own under `parent`, removed at the end.
class Directory {
 public:
  explicit Directory(const std::filesystem::path& parent = std::filesystem::temp_directory_path());
  explicit Directory(const Files& files) : Directory() { write(files); }
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  void write(const Files& files) const;
  std::string path() const { return path_.u8string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace matryoshka::tiny
