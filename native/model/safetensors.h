// The tensors of a model's safetensors files by name: mapped, their headers validated, their values untouched.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/mapped_file.h"
#include "model/tensor.h"

namespace matryoshka {

/// File layout: u64 length N, N bytes of JSON {name: {dtype, shape, data_offsets: [begin, end)}}, then the data, which
/// the tensors tile without gap or overlap (https://github.com/huggingface/safetensors).
class Safetensors {
 public:
  struct Entry {
    Tensor tensor;  ///< `type` holds only where `usable`
    std::string dtype;
    bool usable = false;  ///< F32, F16, BF16 or I8; checkpoints carry others too (position ids), which is no fault
  };

  /// One file. Throws ERR_FILE or ERR_SAFETENSORS_INVALID.
  static Safetensors open(const std::filesystem::path& file);
  /// The shards listed by an index file {weight_map: {name: file}}, which lie beside it. Also throws ERR_MODEL_INVALID
  /// when a shard is not there and ERR_TENSOR_MISSING when a shard has not what the index promises.
  static Safetensors open_sharded(const std::filesystem::path& index);

  /// Null when there is none of that name. Stays valid, with the data, as long as this object or one moved from it.
  const Entry* find(const std::string& name) const;
  /// Checks that the tensor `name` is of floating type and `shape`, which is what config.json asks for.
  /// Throws ERR_TENSOR_MISSING, ERR_TENSOR_DTYPE or ERR_TENSOR_SHAPE.
  const Tensor* require(const std::string& name, const std::vector<int64_t>& shape) const;

  const std::map<std::string, Entry>& entries() const { return entries_; }
  const std::vector<std::unique_ptr<MappedFile>>& files() const { return files_; }

 private:
  explicit Safetensors(std::string source) : source_(std::move(source)) {}
  void add(const std::filesystem::path& file);

  std::string source_;  ///< for messages
  std::map<std::string, Entry> entries_;
  std::vector<std::unique_ptr<MappedFile>> files_;
};

}  // namespace matryoshka
