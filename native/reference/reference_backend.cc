#include "reference/reference_backend.h"

#include <cmath>
#include <map>
#include <vector>

#include "engine/compensation.h"

namespace matryoshka {
namespace {

using Values = std::vector<double>;

/// None where the checkpoint has no such tensor.
Values values(const Tensor* tensor) {
  if (!tensor) return {};
  const std::vector<float> narrow = widened(*tensor);
  return Values(narrow.begin(), narrow.end());
}

struct Linear {
  int out = 0, in = 0;
  Values weight, bias;
};

struct Norm {
  Values weight, bias;
};

Linear read(const LinearSource& source) {
  Linear linear{source.out, source.in, {}, {}};
  for (const Tensor* t : source.weights) {
    const Values v = values(t);
    linear.weight.insert(linear.weight.end(), v.begin(), v.end());
  }
  for (const Tensor* t : source.biases) {
    const Values v = values(t);
    linear.bias.insert(linear.bias.end(), v.begin(), v.end());
  }
  return linear;
}

Norm read(const NormSource& source) { return {values(source.weight), values(source.bias)}; }

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::gelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::relu:
      return x > 0 ? x : 0;
  }
  return x;
}

struct Block {
  Linear linear[kProjections];
  Norm norm[2];
};

struct Head {
  Values dense_weight, dense_bias, weight, bias, query;
  float carry;
};

class ReferenceBackend final : public Backend, private Ops {
 public:
  explicit ReferenceBackend(std::shared_ptr<const Checkpoint> checkpoint) : checkpoint_(std::move(checkpoint)), a_(checkpoint_->architecture()) {
    checkpoint_->check_finite();
    const EmbeddingSource e = checkpoint_->embedding();
    word_ = values(e.word);
    position_ = values(e.position);
    type_ = values(e.type);
    embedding_norm_ = read(e.norm);
    blocks_.resize(a_.layers);
    for (int l = 0; l < a_.layers; ++l) {
      for (int p = 0; p < kProjections; ++p) blocks_[l].linear[p] = read(checkpoint_->linear(l, static_cast<Projection>(p)));
      for (int s = 0; s < 2; ++s) blocks_[l].norm[s] = read(checkpoint_->norm(l, static_cast<Site>(s)));
    }
    for (size_t exit = 0; exit < checkpoint_->exit_layers().size(); ++exit) {
      const HeadSource h = checkpoint_->head(static_cast<int>(exit));
      heads_.push_back({values(h.dense_weight), values(h.dense_bias), values(h.weight), values(h.bias), values(h.query), static_cast<float>(h.carry)});
    }
    compensations_ = Compensation::all(*checkpoint_);
  }

  void begin(const TokenBatch& batch, int exits, bool states) override {
    batch_ = &batch;
    active_ = ActiveSet::all(batch);
    tokens_.assign(static_cast<size_t>(batch.tokens()) * a_.hidden, 0);
    key_value_.assign(static_cast<size_t>(batch.tokens()) * 2 * a_.hidden, 0);
    scores_.reset(batch.sequences(), exits, checkpoint_->compensated(), states ? a_.hidden : 0);
    standings_.reset(batch.sequences(), batch.lists());
  }

  void run(Rows rows, int steps, const std::function<void(Ops&, int)>& body) override {
    rows_ = rows;
    slots_.clear();
    for (int step = 0; step < steps; ++step) body(*this, step);
  }

  void decide(const ExitRule& rule, int exit) override {
    std::vector<uint8_t> stop;
    matryoshka::decide(rule, rule.head_at(exit), batch_->list_offsets, active_, scores_, standings_, stop);
    for (int i = 0; i < active_.size(); ++i)
      if (stop[i]) scores_.exit_layers[active_.sequences[i]] = static_cast<uint8_t>(checkpoint_->exit_layers()[exit]);
    for (const RowMove& move : compact(active_, stop)) {
      move_rows(tokens_, move, a_.hidden);
      move_rows(key_value_, move, 2 * a_.hidden);
    }
    tokens_.resize(static_cast<size_t>(active_.rows()) * a_.hidden);
  }

  void finish(Scores& scores) override { scores = scores_; }
  std::string describe() const override { return "reference f64 1 thread"; }

 private:
  static void move_rows(Values& values, const RowMove& move, int width) {
    const auto from = values.begin() + static_cast<size_t>(move.from) * width;
    std::copy(from, from + static_cast<size_t>(move.rows) * width, values.begin() + static_cast<size_t>(move.to) * width);
  }

  int row_count() const { return rows_ == Rows::tokens ? active_.rows() : active_.size(); }
  Values& slot(Slot which) {
    if (which == Slot::key_value) return key_value_;
    if (which == Slot::hidden && rows_ == Rows::tokens) return tokens_;
    return slots_[which];
  }

  void embed() override {
    for (int s = 0; s < batch_->sequences(); ++s)
      for (int t = batch_->cu_seqlens[s]; t < batch_->cu_seqlens[s + 1]; ++t) {
        const double* word = &word_[static_cast<size_t>(batch_->token_ids[t]) * a_.hidden];
        const double* position = &position_[static_cast<size_t>(t - batch_->cu_seqlens[s] + a_.position_offset) * a_.hidden];
        const double* type = &type_[static_cast<size_t>(batch_->type_ids.empty() ? 0 : batch_->type_ids[t]) * a_.hidden];
        double* row = &tokens_[static_cast<size_t>(t) * a_.hidden];
        for (int i = 0; i < a_.hidden; ++i) row[i] = word[i] + position[i] + type[i];
        normalize(row, embedding_norm_);
      }
  }

  void gather() override {
    Values& hidden = slot(Slot::hidden);
    hidden.clear();
    for (int s = 0; s < active_.size(); ++s) {
      const double* row = &tokens_[static_cast<size_t>(active_.cu_seqlens[s]) * a_.hidden];
      hidden.insert(hidden.end(), row, row + a_.hidden);
    }
  }

  void linear(int layer, Projection which, Slot in, Slot out) override {
    const Linear& w = blocks_[layer].linear[static_cast<int>(which)];
    const Values& x = slot(in);
    Values& y = slot(out);
    y.assign(static_cast<size_t>(row_count()) * w.out, 0);
    for (int r = 0; r < row_count(); ++r)
      for (int o = 0; o < w.out; ++o) {
        double sum = w.bias[o];
        for (int i = 0; i < w.in; ++i) sum += w.weight[static_cast<size_t>(o) * w.in + i] * x[static_cast<size_t>(r) * w.in + i];
        y[static_cast<size_t>(r) * w.out + o] = which == Projection::up ? activate(a_.activation, sum) : sum;
      }
  }

  void attention() override {
    const Values& query = slot(Slot::query);
    Values& context = slot(Slot::context);
    context.assign(query.size(), 0);
    const int hidden = a_.hidden, dim = a_.head_dim;
    const double scale = 1 / std::sqrt(static_cast<double>(dim));
    for (int s = 0; s < active_.size(); ++s) {
      const int begin = active_.cu_seqlens[s], end = active_.cu_seqlens[s + 1];
      const int first = rows_ == Rows::tokens ? begin : s, last = rows_ == Rows::tokens ? end : s + 1;
      Values weight(end - begin);
      for (int r = first; r < last; ++r)
        for (int h = 0; h < a_.heads; ++h) {
          const double* q = &query[static_cast<size_t>(r) * hidden + h * dim];
          double top = -std::numeric_limits<double>::infinity(), sum = 0;
          for (int t = begin; t < end; ++t) {
            const double* k = &key_value_[static_cast<size_t>(t) * 2 * hidden + h * dim];
            double dot = 0;
            for (int i = 0; i < dim; ++i) dot += q[i] * k[i];
            top = std::max(top, weight[t - begin] = dot * scale);
          }
          for (double& w : weight) sum += w = std::exp(w - top);
          double* out = &context[static_cast<size_t>(r) * hidden + h * dim];
          for (int t = begin; t < end; ++t) {
            const double* v = &key_value_[static_cast<size_t>(t) * 2 * hidden + hidden + h * dim];
            for (int i = 0; i < dim; ++i) out[i] += weight[t - begin] / sum * v[i];
          }
        }
    }
  }

  void residual(int layer, Site site) override {
    Values& hidden = slot(Slot::hidden);
    const Values& branch = slot(Slot::branch);
    for (size_t i = 0; i < hidden.size(); ++i) hidden[i] += branch[i];
    for (int r = 0; r < row_count(); ++r) normalize(&hidden[static_cast<size_t>(r) * a_.hidden], blocks_[layer].norm[static_cast<int>(site)]);
  }

  void head(int exit) override {
    const Head& head = heads_[exit];
    const Values& hidden = slot(Slot::hidden);
    std::vector<Values> conditioned;  // by query, which come first and never stop
    for (int s = 0; s < active_.size(); ++s) {
      const size_t row = rows_ == Rows::tokens ? active_.cu_seqlens[s] : s;
      if (s < batch_->queries) {
        Values v = head.weight;
        for (int o = 0; o < a_.hidden; ++o)
          for (int i = 0; i < a_.hidden; ++i) v[o] += head.query[static_cast<size_t>(o) * a_.hidden + i] * hidden[row * a_.hidden + i];
        conditioned.push_back(v);
        continue;
      }
      Values x(&hidden[row * a_.hidden], &hidden[row * a_.hidden] + a_.hidden);
      if (!head.dense_weight.empty()) {
        Values y(a_.hidden);
        for (int o = 0; o < a_.hidden; ++o) {
          double sum = head.dense_bias[o];
          for (int i = 0; i < a_.hidden; ++i) sum += head.dense_weight[static_cast<size_t>(o) * a_.hidden + i] * x[i];
          y[o] = std::tanh(sum);
        }
        x = y;
      }
      double logit = head.bias[0];
      const Values& weight = conditioned.empty() ? head.weight : conditioned[batch_->query_of[active_.sequences[s]]];
      for (int i = 0; i < a_.hidden; ++i) logit += weight[i] * x[i];
      put_score(scores_, compensations_, active_.sequences[s], exit, &hidden[row * a_.hidden], a_.hidden, static_cast<float>(logit), head.carry);
    }
  }

  void normalize(double* row, const Norm& norm) const {
    double mean = 0, square = 0;
    for (int i = 0; i < a_.hidden; ++i) mean += row[i] / a_.hidden;
    for (int i = 0; i < a_.hidden; ++i) square += (row[i] - mean) * (row[i] - mean) / a_.hidden;
    const double scale = 1 / std::sqrt(square + a_.norm_eps);
    for (int i = 0; i < a_.hidden; ++i) row[i] = (row[i] - mean) * scale * norm.weight[i] + norm.bias[i];
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  const Architecture& a_;
  Values word_, position_, type_;
  Norm embedding_norm_;
  std::vector<Block> blocks_;
  std::vector<Head> heads_;
  std::vector<Compensation> compensations_;

  const TokenBatch* batch_ = nullptr;
  ActiveSet active_;
  Rows rows_ = Rows::tokens;
  Values tokens_, key_value_;
  std::map<Slot, Values> slots_;
  Scores scores_;
  Standings standings_;
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend(std::shared_ptr<const Checkpoint> checkpoint) {
  return std::make_unique<ReferenceBackend>(std::move(checkpoint));
}

}  // namespace matryoshka
