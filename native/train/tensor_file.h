// Writes a safetensors file so that it is there in full or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "model/tensor.h"

namespace matryoshka::train {

/// One tensor to write; `data` holds its elements, row-major.
struct OutputTensor {
  std::string name;
  StoredType type = StoredType::f32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
};

/// Writes beside `path`, flushes to the disk, and renames. Throws ERR_FILE, leaving what was at `path` as it was.
void write_safetensors(const std::filesystem::path& path, const std::vector<OutputTensor>& tensors);

/// To nearest even; beyond the largest f16, infinity.
uint16_t to_f16(float x);

}  // namespace matryoshka::train
