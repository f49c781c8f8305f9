#include "train/state_file.h"

#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "model/error.h"
#include "model/json.h"
#include "model/safetensors.h"
#include "train/tensor_file.h"

namespace matryoshka::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefixes[] = {"weight/", "first/", "second/"};
constexpr const char* kProgress = "progress";  // I8 [16]: step and seed as little-endian u64

using Progress = std::array<uint64_t, 2>;

std::array<std::vector<float>*, 3> arrays(const TrainState& state) { return {&state.weights, &state.adam.first, &state.adam.second}; }

}  // namespace

void save_state(const std::string& path, const Layout& layout, const TrainState& state) {
  std::vector<OutputTensor> tensors;
  for (int i = 0; i < 3; ++i)
    for (const Parameter& p : layout.parameters) tensors.push_back({kPrefixes[i] + p.name, StoredType::f32, p.shape, arrays(state)[i]->data() + p.offset});
  const Progress progress = {state.adam.step, state.seed};
  tensors.push_back({kProgress, StoredType::i8, {sizeof progress}, progress.data()});
  write_safetensors(fs::u8path(path), tensors);
}

void load_state(const std::string& path, const Layout& layout, const TrainState& state) {
  const Safetensors file = Safetensors::open(fs::u8path(path));
  const Safetensors::Entry* const entry = file.find(kProgress);
  Progress progress;
  if (!entry || entry->dtype != "I8" || entry->tensor.bytes() != sizeof progress)
    throw Error("ERR_TENSOR_MISSING", path + ": expected a training state, with 16 bytes named \"progress\", which are not there");
  std::memcpy(progress.data(), entry->tensor.data, sizeof progress);
  std::vector<const Tensor*> tensors;
  for (const char* prefix : kPrefixes)
    for (const Parameter& p : layout.parameters) {
      const Tensor* tensor = file.require(prefix + p.name, p.shape);
      if (tensor->type != StoredType::f32) throw Error("ERR_TENSOR_DTYPE", path + ": tensor " + quote(tensor->name) + ": expected F32");
      tensors.push_back(tensor);
    }
  const Tensor* const* next = tensors.data();
  for (std::vector<float>* array : arrays(state))
    for (const Parameter& p : layout.parameters) widen(**next++, 0, p.count, array->data() + p.offset);
  state.adam.step = progress[0];
  state.seed = progress[1];
}

void export_model(const std::string& directory, const Layout& layout, const std::vector<float>& weights) {
  std::vector<uint16_t> halves(layout.size);
  std::vector<OutputTensor> encoder, heads;
  for (const Parameter& p : layout.parameters) {
    for (size_t i = p.offset; i < p.offset + p.count; ++i) {
      halves[i] = to_f16(weights[i]);
      const bool fits = p.head ? std::isfinite(weights[i]) : (halves[i] & 0x7c00) != 0x7c00;
      if (!fits)
        throw Error("ERR_TENSOR_NOT_FINITE", "tensor " + quote(p.name) + ": expected weights within ±65504, which F16 holds, but element " + std::to_string(i - p.offset) + " is " +
                                                 std::to_string(weights[i]) + ": training has diverged; go back to a checkpoint and lower the learning rate");
    }
    if (p.head) heads.push_back({p.name, StoredType::f32, p.shape, &weights[p.offset]});
    else encoder.push_back({p.name, StoredType::f16, p.shape, &halves[p.offset]});
  }
  const fs::path path = fs::u8path(directory);
  write_safetensors(path / "model.safetensors", encoder);
  write_safetensors(path / "matryoshka.safetensors", heads);
}

}  // namespace matryoshka::train
