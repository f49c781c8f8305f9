// Everything a training run is, in one safetensors file, so that it can go on from there bit for bit.
#pragma once

#include <string>
#include <vector>

#include "train/adamw.h"
#include "train/parameters.h"

namespace matryoshka::train {

struct TrainState {
  std::vector<float>& weights;
  AdamW& adam;
  uint64_t& seed;
};

/// Throws ERR_FILE.
void save_state(const std::string& path, const Layout& layout, const TrainState& state);
/// Changes nothing unless the whole file is there and of this layout. Throws ERR_FILE, ERR_SAFETENSORS_INVALID,
/// ERR_TENSOR_MISSING, ERR_TENSOR_SHAPE, ERR_TENSOR_DTYPE.
void load_state(const std::string& path, const Layout& layout, const TrainState& state);

/// model.safetensors (F16, the base checkpoint's names) and matryoshka.safetensors (F32 heads) in an existing directory.
/// Throws ERR_FILE, and ERR_TENSOR_NOT_FINITE for a weight that F16 cannot hold, before anything is written.
void export_model(const std::string& directory, const Layout& layout, const std::vector<float>& weights);

}  // namespace matryoshka::train
