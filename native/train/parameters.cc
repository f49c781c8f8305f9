#include "train/parameters.h"

#include <algorithm>
#include <cmath>

#include "model/config.h"
#include "model/error.h"
#include "train/random.h"

namespace matryoshka::train {
namespace {

constexpr double kHeadDeviation = 0.02;  // BERT's initializer_range
constexpr double kTemperature = 0.03, kEarlyShare = 0.05;  // of query-conditioned heads' first opinion

class Reader {
 public:
  Reader(const Checkpoint& checkpoint, const InitialOptions& options) : checkpoint_(checkpoint), options_(options) {
    Layout& out = model_.layout;
    out.architecture = checkpoint.architecture();
    out.architecture.head = options.head.value_or(has_exit_heads() ? checkpoint.architecture().head : HeadKind::linear);
    out.architecture.own_head_everywhere = false;
    choose_exits();
    embedding();
    blocks();
    for (const int layer : out.exit_layers) out.heads.push_back(head(layer));
    carry();
    out.size = model_.weights.size();
  }

  InitialModel take() { return std::move(model_); }

 private:
  bool has_exit_heads() const { return checkpoint_.architecture().head != HeadKind::dense_tanh_linear && !checkpoint_.exit_layers().empty(); }

  void choose_exits() {
    const int layers = model_.layout.architecture.layers;
    std::vector<int>& exits = model_.layout.exit_layers;
    exits = options_.exit_layers;
    if (exits.empty() && has_exit_heads()) exits = checkpoint_.exit_layers();
    if (exits.empty())
      for (int l = 1; l <= layers; ++l) exits.push_back(l);
    const bool ascending = std::is_sorted(exits.begin(), exits.end(), std::less_equal<int>());
    if (!ascending || exits.front() < 1 || exits.back() != layers)
      throw Error("ERR_INVALID_ARGUMENT", "Expected exit layers ascending from 1 to the model's last, " + std::to_string(layers));
  }

  /// A new parameter at the end, its values still zero.
  size_t add(const std::string& name, const std::vector<int64_t>& shape, bool decays, bool head = false, bool fast = false) {
    Parameter p{name, shape, model_.weights.size(), 1, decays, head, fast};
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

  /// M = c I. After a layer norm with weight γ and bias β, the square of a row's length is about Σ γ² + β².
  void compare(int layer, float* matrix) {
    const int hidden = model_.layout.architecture.hidden;
    const NormAt& norm = model_.layout.norm(layer - 1, Site::mlp);
    double square = 0;
    for (int i = 0; i < hidden; ++i)
      for (const size_t at : {norm.weight, norm.bias}) square += static_cast<double>(model_.weights[at + i]) * model_.weights[at + i];
    const double share = layer == model_.layout.architecture.layers ? 1 : kEarlyShare;
    for (int i = 0; i < hidden; ++i) matrix[static_cast<size_t>(i) * (hidden + 1)] = static_cast<float>(share / (kTemperature * std::max(square, 1e-6)));
  }

  Layout::Head head(int layer) {
    const int hidden = model_.layout.architecture.hidden;
    const std::string name = "exit." + std::to_string(layer);
    Layout::Head out;
    out.weight = add(name + ".weight", {1, hidden}, true, true, true);
    out.bias = add(name + ".bias", {1}, false, true, true);
    const bool conditioned = model_.layout.architecture.head == HeadKind::query;
    if (conditioned) out.query = add(name + ".query.weight", {hidden, hidden}, true, true);
    float* weight = &model_.weights[out.weight];
    const std::vector<int>& known = checkpoint_.exit_layers();
    const auto found = std::find(known.begin(), known.end(), layer);
    const HeadSource source = has_exit_heads() && found != known.end() ? checkpoint_.head(static_cast<int>(found - known.begin())) : HeadSource();
    if (conditioned && source.query) widen(*source.query, 0, source.query->count(), &model_.weights[out.query]);
    else if (conditioned) compare(layer, &model_.weights[out.query]);
    if (source.weight) {
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

  void carry() {
    const std::vector<double>& shares = options_.carry;
    std::vector<Layout::Head>& heads = model_.layout.heads;
    if (shares.empty()) return;
    bool good = shares.size() == heads.size();
    for (size_t exit = 0; good && exit < heads.size(); ++exit) {
      good = may_carry(shares[exit], exit);
      heads[exit].carry = shares[exit];
    }
    if (!good)
      throw Error("ERR_INVALID_ARGUMENT", "Expected a carry of at least 0 and below 1 for each of the " + std::to_string(heads.size()) + " exits, the first of them 0");
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
