#include "train/parameters.h"

#include <algorithm>
#include <cmath>

#include "model/error.h"
#include "train/random.h"

namespace matryoshka::train {
namespace {

constexpr double kHeadDeviation = 0.02;  // BERT's initializer_range

class Reader {
 public:
  Reader(const Checkpoint& checkpoint, const InitialOptions& options) : checkpoint_(checkpoint), options_(options) {
    Layout& out = model_.layout;
    out.architecture = checkpoint.architecture();
    out.architecture.head = HeadKind::linear;
    out.architecture.own_head_everywhere = false;
    choose_exits();
    embedding();
    blocks();
    for (const int layer : out.exit_layers) out.heads.push_back(head(layer));
    out.size = model_.weights.size();
  }

  InitialModel take() { return std::move(model_); }

 private:
  bool has_linear_heads() const { return checkpoint_.architecture().head == HeadKind::linear && !checkpoint_.exit_layers().empty(); }

  void choose_exits() {
    const int layers = model_.layout.architecture.layers;
    std::vector<int>& exits = model_.layout.exit_layers;
    exits = options_.exit_layers;
    if (exits.empty() && has_linear_heads()) exits = checkpoint_.exit_layers();
    if (exits.empty())
      for (int l = 1; l <= layers; ++l) exits.push_back(l);
    const bool ascending = std::is_sorted(exits.begin(), exits.end(), std::less_equal<int>());
    if (!ascending || exits.front() < 1 || exits.back() != layers)
      throw Error("ERR_INVALID_ARGUMENT", "Expected exit layers ascending from 1 to the model's last, " + std::to_string(layers));
  }

  /// A new parameter at the end, its values still zero.
  size_t add(const std::string& name, const std::vector<int64_t>& shape, bool decays, bool head = false) {
    Parameter p{name, shape, model_.weights.size(), 1, decays, head};
    for (const int64_t d : shape) p.count *= static_cast<size_t>(d);
    model_.weights.resize(p.offset + p.count);
    model_.layout.parameters.push_back(std::move(p));
    return model_.layout.parameters.back().offset;
  }

  size_t copy(const Tensor& tensor, bool decays) {
    const size_t at = add(tensor.name, tensor.shape, decays);
    widen(tensor, 0, tensor.count(), &model_.weights[at]);
    return at;
  }

  NormAt norm(const NormSource& source) {
    const size_t weight = copy(*source.weight, false);
    return {weight, copy(*source.bias, false)};
  }

  void embedding() {
    Layout& out = model_.layout;
    const EmbeddingSource source = checkpoint_.embedding();
    out.word = copy(*source.word, true);
    out.position = copy(*source.position, true);
    const int rows = static_cast<int>(source.type->shape[0]), hidden = out.architecture.hidden;
    const int wanted = options_.type_rows ? options_.type_rows : rows;
    if (wanted < rows || wanted > 256)
      throw Error("ERR_INVALID_ARGUMENT", "Expected from " + std::to_string(rows) + " (the checkpoint's) to 256 token types but received " + std::to_string(wanted));
    out.type = add(source.type->name, {wanted, hidden}, true);
    for (int row = 0; row < wanted; ++row) {
      const int from = row < rows ? row : row == 2 ? 1 : 0;
      widen(*source.type, static_cast<size_t>(std::min(from, rows - 1)) * hidden, hidden, &model_.weights[out.type + static_cast<size_t>(row) * hidden]);
    }
    out.architecture.token_types = wanted;
    out.embedding_norm = norm(source.norm);
  }

  void blocks() {
    Layout& out = model_.layout;
    out.blocks.resize(out.architecture.layers);
    for (int l = 0; l < out.architecture.layers; ++l) {
      for (int p = 0; p < kProjections; ++p) {
        const LinearSource source = checkpoint_.linear(l, static_cast<Projection>(p));
        LinearAt at{model_.weights.size(), 0, source.out, source.in};
        for (const Tensor* weight : source.weights) copy(*weight, true);
        at.bias = model_.weights.size();
        for (const Tensor* bias : source.biases) copy(*bias, false);
        out.blocks[l].linear[p] = at;
      }
      for (int s = 0; s < 2; ++s) out.blocks[l].norm[s] = norm(checkpoint_.norm(l, static_cast<Site>(s)));
    }
  }

  Layout::Head head(int layer) {
    const int hidden = model_.layout.architecture.hidden;
    const std::string name = "exit." + std::to_string(layer);
    Layout::Head out;
    out.weight = add(name + ".weight", {1, hidden}, true, true);
    out.bias = add(name + ".bias", {1}, false, true);
    float* weight = &model_.weights[out.weight];
    const std::vector<int>& known = checkpoint_.exit_layers();
    const auto found = std::find(known.begin(), known.end(), layer);
    if (has_linear_heads() && found != known.end()) {
      const HeadSource source = checkpoint_.head(static_cast<int>(found - known.begin()));
      widen(*source.weight, 0, hidden, weight);
      widen(*source.bias, 0, 1, &model_.weights[out.bias]);
      return out;
    }
    for (int i = 0; i < hidden; ++i) {  // Box-Muller
      const double u = 1 - uniform(options_.seed, layer, i, 0), v = uniform(options_.seed, layer, i, 1);
      weight[i] = static_cast<float>(kHeadDeviation * std::sqrt(-2 * std::log(u)) * std::cos(2 * M_PI * v));
    }
    return out;
  }

  const Checkpoint& checkpoint_;
  const InitialOptions& options_;
  InitialModel model_;
};

}  // namespace

int Layout::exit_after(int layer) const {
  const auto found = std::lower_bound(exit_layers.begin(), exit_layers.end(), layer + 1);
  return found != exit_layers.end() && *found == layer + 1 ? static_cast<int>(found - exit_layers.begin()) : -1;
}

InitialModel read_initial_model(const std::string& directory, const InitialOptions& options) {
  const auto checkpoint = Checkpoint::open_encoder(directory);
  checkpoint->check_finite();
  return Reader(*checkpoint, options).take();
}

}  // namespace matryoshka::train
