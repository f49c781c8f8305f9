#include "train/reference/reference_train_backend.h"

#include <cmath>
#include <map>

#include "train/pass.h"

namespace matryoshka::train {
namespace {

using Values = std::vector<double>;

struct ValueAndSlope {
  double value, slope;
};

ValueAndSlope activated(Activation activation, double x) {
  switch (activation) {
    case Activation::gelu: {
      const double below = 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
      return {x * below, below + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI)};
    }
    case Activation::gelu_tanh: {
      const double c = std::sqrt(2 / M_PI), t = std::tanh(c * (x + 0.044715 * x * x * x));
      return {0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)};
    }
    case Activation::relu:
      break;
  }
  return {x > 0 ? x : 0, x > 0 ? 1.0 : 0.0};
}

}  // namespace

/// The ops over the whole batch, with everything they remember.
class ReferenceTrainBackend::Tape final : public TrainOps {
 public:
  Tape(const Layout& layout, Rounding rounding, const Values& weights, const TokenBatch& batch, const std::vector<uint8_t>& skip)
      : logits(static_cast<size_t>(batch.sequences()) * layout.heads.size()), skipped(skip), layout_(layout), a_(layout.architecture), round_(rounding), weights_(weights), batch_(batch), layers_(a_.layers) {
    heads_.resize(layout.heads.size());
  }

  void embed() override {
    Values sum(size(batch_.tokens()));
    each_token([&](int t, int position, int type) {
      for (int i = 0; i < a_.hidden; ++i)
        sum[at(t, i)] = weights_[layout_.word + at(batch_.token_ids[t], i)] + weights_[layout_.position + at(position, i)] + weights_[layout_.type + at(type, i)];
    });
    hidden_ = normalized(sum, layout_.embedding_norm, embedding_);
  }

  void gather() override {
    Values rows;
    for (int s = 0; s < batch_.sequences(); ++s) rows.insert(rows.end(), &hidden_[at(batch_.cu_seqlens[s], 0)], &hidden_[at(batch_.cu_seqlens[s], 0)] + a_.hidden);
    hidden_ = rows;
    gathered_ = true;
  }

  void linear(int layer, Projection which) override {
    const LinearAt& w = layout_.linear(layer, which);
    Layer& l = layers_[layer];
    Values& x = l.in[index(which)];
    x = which == Projection::output ? l.context : which == Projection::down ? l.activated : rounded(hidden_);
    const int rows = static_cast<int>(x.size()) / w.in;
    Values y(static_cast<size_t>(rows) * w.out);
    for (int r = 0; r < rows; ++r)
      for (int o = 0; o < w.out; ++o) {
        double sum = weights_[w.bias + o];
        for (int i = 0; i < w.in; ++i) sum += round_(weights_[w.weight + static_cast<size_t>(o) * w.in + i]) * x[static_cast<size_t>(r) * w.in + i];
        y[static_cast<size_t>(r) * w.out + o] = sum;
      }
    const bool added = which == Projection::output || which == Projection::down;  // to the residual, which is f32
    (which == Projection::query ? l.query : which == Projection::key_value ? l.key_value : which == Projection::up ? l.mlp : branch_) = added ? y : rounded(y);
  }

  void attention(int layer) override {
    Layer& l = layers_[layer];
    l.context.assign(l.query.size(), 0);
    each_head(layer, [&](const Head& h) {
      for (int r = h.first_query; r < h.last_query; ++r) {
        const Values p = softmax(l, h, r);
        for (int i = 0; i < a_.head_dim; ++i) {
          double sum = 0;
          for (int t = h.first_key; t < h.last_key; ++t) sum += round_(p[t - h.first_key]) * value(l, h, t, i);
          l.context[at(r, h.column + i)] = round_(sum);
        }
      }
    });
  }

  void residual(int layer, Site site) override {
    for (size_t i = 0; i < hidden_.size(); ++i) hidden_[i] += branch_[i];
    hidden_ = normalized(hidden_, layout_.norm(layer, site), layers_[layer].norm[static_cast<int>(site)]);
  }

  void activate(int layer) override {
    Layer& l = layers_[layer];
    l.activated.clear();
    for (const double x : l.mlp) l.activated.push_back(round_(activated(a_.activation, x).value));
  }

  void head(int exit) override {
    heads_[exit].clear();
    for (int s = 0; s < batch_.sequences(); ++s)
      for (int i = 0; i < a_.hidden; ++i) heads_[exit].push_back(hidden_[at(gathered_ ? s : batch_.cu_seqlens[s], i)]);
    for (int s = batch_.queries; s < batch_.sequences(); ++s) {
      const Values v = head_vector(exit, s);
      double logit = weights_[layout_.heads[exit].bias];
      for (int i = 0; i < a_.hidden; ++i) logit += v[i] * heads_[exit][at(s, i)];
      logits[s * layout_.heads.size() + exit] = logit;
    }
  }

  void begin_backward() override { d_hidden_.assign(size(batch_.sequences()), 0); }

  void head_backward(int exit) override {
    const Layout::Head& head = layout_.heads[exit];
    const auto d_row = [&](int s, int i) -> double& { return d_hidden_[at(gathered_ ? s : batch_.cu_seqlens[s], i)]; };
    for (int s = batch_.queries; s < batch_.sequences(); ++s) {
      const double d = logit_gradients[s * layout_.heads.size() + exit];
      const Values v = head_vector(exit, s);
      gradients[head.bias] += d;
      for (int i = 0; i < a_.hidden; ++i) {
        const double dv = d * heads_[exit][at(s, i)];
        gradients[head.weight + i] += dv;
        d_row(s, i) += d * v[i];
        if (batch_.queries == 0) continue;
        for (int j = 0; j < a_.hidden; ++j) {
          const size_t m = head.query + static_cast<size_t>(i) * a_.hidden + j;
          gradients[m] += dv * heads_[exit][at(batch_.query_of[s], j)];
          d_row(batch_.query_of[s], j) += dv * weights_[m];
        }
      }
    }
  }

  void activate_backward(int layer) override {
    for (size_t i = 0; i < d_mlp_.size(); ++i) d_mlp_[i] = round_(d_mlp_[i] * activated(a_.activation, layers_[layer].mlp[i]).slope);
  }

  void residual_backward(int layer, Site site) override {
    d_hidden_ = normalized_backward(d_hidden_, layout_.norm(layer, site), layers_[layer].norm[static_cast<int>(site)]);
    d_branch_ = rounded(d_hidden_);
  }

  void attention_backward(int layer) override {
    const Layer& l = layers_[layer];
    const double scale = 1 / std::sqrt(static_cast<double>(a_.head_dim));
    d_query_.assign(l.query.size(), 0);
    d_key_value_.assign(l.key_value.size(), 0);
    each_head(layer, [&](const Head& h) {
      for (int r = h.first_query; r < h.last_query; ++r) {
        const Values p = softmax(l, h, r);
        Values dp(p.size());
        double along = 0;
        for (int t = h.first_key; t < h.last_key; ++t) {
          for (int i = 0; i < a_.head_dim; ++i) dp[t - h.first_key] += d_context_[at(r, h.column + i)] * value(l, h, t, i);
          along += p[t - h.first_key] * dp[t - h.first_key];
        }
        for (int t = h.first_key; t < h.last_key; ++t) {
          const double weight = round_(p[t - h.first_key]), slope = round_(p[t - h.first_key] * (dp[t - h.first_key] - along) * scale);
          for (int i = 0; i < a_.head_dim; ++i) {
            d_query_[at(r, h.column + i)] += slope * key(l, h, t, i);
            d_key_value_[2 * at(t, 0) + h.column + i] += slope * l.query[at(r, h.column + i)];
            d_key_value_[2 * at(t, 0) + a_.hidden + h.column + i] += weight * d_context_[at(r, h.column + i)];
          }
        }
      }
    });
    d_query_ = rounded(d_query_);
    d_key_value_ = rounded(d_key_value_);
  }

  void scatter() override {
    const Values rows = d_hidden_;
    d_hidden_.assign(size(batch_.tokens()), 0);
    for (int s = 0; s < batch_.sequences(); ++s)
      for (int i = 0; i < a_.hidden; ++i) d_hidden_[at(batch_.cu_seqlens[s], i)] = rows[at(s, i)];
    gathered_ = false;
  }

  void linear_backward(int layer, Projection which) override {
    const LinearAt& w = layout_.linear(layer, which);
    const Values& x = layers_[layer].in[index(which)];
    const Values& dy = which == Projection::query ? d_query_ : which == Projection::key_value ? d_key_value_ : which == Projection::up ? d_mlp_ : d_branch_;
    Values dx(x.size());
    for (size_t r = 0; r < x.size() / w.in; ++r)
      for (int o = 0; o < w.out; ++o) {
        const double d = dy[r * w.out + o];
        gradients[w.bias + o] += d;
        for (int i = 0; i < w.in; ++i) {
          gradients[w.weight + static_cast<size_t>(o) * w.in + i] += d * x[r * w.in + i];
          dx[r * w.in + i] += d * round_(weights_[w.weight + static_cast<size_t>(o) * w.in + i]);
        }
      }
    if (which == Projection::output) d_context_ = rounded(dx);
    else if (which == Projection::down) d_mlp_ = rounded(dx);
    else
      for (size_t i = 0; i < dx.size(); ++i) d_hidden_[i] += dx[i];
  }

  void embed_backward() override {
    const Values d = normalized_backward(d_hidden_, layout_.embedding_norm, embedding_);
    each_token([&](int t, int position, int type) {
      for (int i = 0; i < a_.hidden; ++i)
        for (const size_t to : {layout_.word + at(batch_.token_ids[t], i), layout_.position + at(position, i), layout_.type + at(type, i)}) gradients[to] += d[at(t, i)];
    });
  }

  Values logits, logit_gradients, gradients;
  const std::vector<uint8_t> skipped;

 private:
  /// w, or where heads are conditioned on queries, w + M q.
  Values head_vector(int exit, int sequence) const {
    const Layout::Head& head = layout_.heads[exit];
    Values v(&weights_[head.weight], &weights_[head.weight] + a_.hidden);
    for (int i = 0; batch_.queries > 0 && i < a_.hidden; ++i)
      for (int j = 0; j < a_.hidden; ++j) v[i] += weights_[head.query + static_cast<size_t>(i) * a_.hidden + j] * heads_[exit][at(batch_.query_of[sequence], j)];
    return v;
  }

  struct Norm {
    Values hat, inverse;
  };
  struct Layer {
    Values in[kProjections];
    Values query, key_value, context, mlp, activated;
    Norm norm[2];
  };
  struct Head {
    int first_query, last_query, first_key, last_key, column;
  };

  static int index(Projection which) { return static_cast<int>(which); }
  size_t at(int row, int column) const { return static_cast<size_t>(row) * a_.hidden + column; }
  size_t size(int rows) const { return at(rows, 0); }
  double key(const Layer& l, const Head& h, int t, int i) const { return l.key_value[2 * at(t, 0) + h.column + i]; }
  double value(const Layer& l, const Head& h, int t, int i) const { return l.key_value[2 * at(t, 0) + a_.hidden + h.column + i]; }

  Values rounded(Values x) const {
    for (double& v : x) v = round_(v);
    return x;
  }

  template <class Body>
  void each_token(const Body& body) const {
    for (int s = 0; s < batch_.sequences(); ++s)
      for (int t = batch_.cu_seqlens[s]; t < batch_.cu_seqlens[s + 1]; ++t)
        body(t, t - batch_.cu_seqlens[s] + a_.position_offset, batch_.type_ids.empty() ? 0 : batch_.type_ids[t]);
  }

  template <class Body>
  void each_head(int layer, const Body& body) const {
    const bool scoring = layer + 1 == a_.layers;
    for (int s = 0; s < batch_.sequences(); ++s)
      for (int head = 0; head < a_.heads; ++head) {
        const int begin = batch_.cu_seqlens[s], end = batch_.cu_seqlens[s + 1];
        body(Head{scoring ? s : begin, scoring ? s + 1 : end, begin, end, head * a_.head_dim});
      }
  }

  Values softmax(const Layer& l, const Head& h, int query) const {
    Values p;
    double top = -INFINITY, sum = 0;
    for (int t = h.first_key; t < h.last_key; ++t) {
      double dot = 0;
      for (int i = 0; i < a_.head_dim; ++i) dot += l.query[at(query, h.column + i)] * key(l, h, t, i);
      p.push_back(dot / std::sqrt(static_cast<double>(a_.head_dim)));
      top = std::fmax(top, p.back());
    }
    for (double& x : p) sum += x = std::exp(x - top);
    for (double& x : p) x /= sum;
    return p;
  }

  Values normalized(const Values& x, const NormAt& w, Norm& norm) const {
    Values y(x.size());
    norm.hat.resize(x.size());
    norm.inverse.resize(x.size() / a_.hidden);
    for (size_t r = 0; r < norm.inverse.size(); ++r) {
      const double* row = &x[r * a_.hidden];
      double mean = 0, square = 0;
      for (int i = 0; i < a_.hidden; ++i) mean += row[i] / a_.hidden;
      for (int i = 0; i < a_.hidden; ++i) square += (row[i] - mean) * (row[i] - mean) / a_.hidden;
      norm.inverse[r] = 1 / std::sqrt(square + a_.norm_eps);
      for (int i = 0; i < a_.hidden; ++i) {
        const double hat = (row[i] - mean) * norm.inverse[r];
        norm.hat[r * a_.hidden + i] = round_(hat);
        y[r * a_.hidden + i] = hat * weights_[w.weight + i] + weights_[w.bias + i];
      }
    }
    return y;
  }

  Values normalized_backward(const Values& dy, const NormAt& w, const Norm& norm) {
    Values dx(dy.size());
    for (size_t r = 0; r < norm.inverse.size(); ++r) {
      double mean = 0, along = 0;
      for (int i = 0; i < a_.hidden; ++i) {
        const size_t k = r * a_.hidden + i;
        mean += dy[k] * weights_[w.weight + i] / a_.hidden;
        along += dy[k] * weights_[w.weight + i] * norm.hat[k] / a_.hidden;
        gradients[w.weight + i] += dy[k] * norm.hat[k];
        gradients[w.bias + i] += dy[k];
      }
      for (int i = 0; i < a_.hidden; ++i) {
        const size_t k = r * a_.hidden + i;
        dx[k] = (dy[k] * weights_[w.weight + i] - mean - norm.hat[k] * along) * norm.inverse[r];
      }
    }
    return dx;
  }

  const Layout& layout_;
  const Architecture& a_;
  const Rounding round_;
  const Values weights_;
  const TokenBatch batch_;
  Norm embedding_;
  std::vector<Layer> layers_;
  std::vector<Values> heads_;  // scoring rows at each exit
  bool gathered_ = false;
  Values hidden_, branch_;
  Values d_hidden_, d_branch_, d_mlp_, d_context_, d_query_, d_key_value_;
};

std::vector<double> ReferenceTrainBackend::forward(const std::vector<double>& weights, const TokenBatch& batch, const std::vector<uint8_t>& skipped) {
  tape_ = std::make_shared<Tape>(layout_, rounding_, weights, batch, skipped);
  tape_->embed();
  for (int l = 0; l < layout_.architecture.layers; ++l) forward_layer(*tape_, layout_, skipped, l);
  return tape_->logits;
}

std::vector<double> ReferenceTrainBackend::backward(const std::vector<double>& logit_gradients) {
  tape_->logit_gradients = logit_gradients;
  tape_->gradients.assign(layout_.size, 0);
  for (int l = layout_.architecture.layers - 1; l >= 0; --l) backward_layer(*tape_, layout_, tape_->skipped, l);
  tape_->embed_backward();
  return tape_->gradients;
}

}  // namespace matryoshka::train
