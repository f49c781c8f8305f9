// Every list-wise part is a divergence between a distribution over some pairs of the list and the softmax of an exit's
// logits over the same pairs; its gradient by these logits is
//   cross-entropy and KL(p ‖ q), q = softmax(s / τ):  (q - p) / τ
//   KL(q ‖ p):                                        q (ln q - ln p - KL) / τ
#include "train/losses.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "model/error.h"

namespace matryoshka::train {
namespace {

using Values = std::vector<double>;

[[noreturn]] void reject(const std::string& message) { throw Error("ERR_INVALID_ARGUMENT", message); }

void check_weight(double value, const std::string& name) {
  if (!(value >= 0) || !std::isfinite(value)) reject("Expected a finite " + name + " of at least 0 but received " + std::to_string(value));
}

void check_temperature(double value, const std::string& name) {
  if (!(value > 0) || !std::isfinite(value)) reject("Expected a finite " + name + " above 0 but received " + std::to_string(value));
}

Values log_softmax(const Values& scores, double temperature) {
  const double top = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double s : scores) sum += std::exp((s - top) / temperature);
  Values out(scores.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = (scores[i] - top) / temperature - std::log(sum);
  return out;
}

/// ln(1 + e^x) without overflow.
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }

/// One list: its sequences' logits, and where their gradients go.
class List {
 public:
  List(const LossConfig& config, const Targets& targets, int begin, int count, double share, const double* logits, double* gradients)
      : config_(config), share_(share), exits_(static_cast<int>(config.exit_weights.size())), logits_(logits), gradients_(gradients) {
    double positive = 0;
    bool negative = false;
    for (int i = 0; i < count; ++i) {
      const float label = targets.labels[begin + i];
      if (std::isnan(label)) continue;
      labelled_.push_back(i);
      labels_.push_back(label);
      positive += label;
      negative = negative || label == 0;
    }
    if (positive > 0 && negative)
      for (const double label : labels_) ranks_.push_back(std::log(label / positive));
    for (size_t t = 0; t < config.teachers.size(); ++t) {
      Scored scored;
      Values scores;
      for (int i = 0; i < count; ++i) {
        const float score = targets.teachers[t][begin + i];
        if (std::isnan(score)) continue;
        scored.pairs.push_back(i);
        scores.push_back(score);
      }
      if (scores.size() >= 2) scored.log_target = log_softmax(scores, config.teachers[t].temperature * config.teachers[t].soften);
      teachers_.push_back(std::move(scored));
    }
    for (int i = 0; i < count; ++i) all_.push_back(i);
  }

  void add(LossValue& value) {
    for (int exit = 0; exit < exits_; ++exit) {
      ExitLoss& out = value.exits[exit];
      const double weight = config_.exit_weights[exit] * share_;
      const auto part = [&](double& sum, double factor, double loss) {
        sum += share_ * loss;
        value.total += weight * factor * loss;
      };
      if (!ranks_.empty()) part(out.rank, config_.rank, cross_entropy(exit, labelled_, ranks_, weight * config_.rank));
      if (!labelled_.empty()) part(out.binary, config_.binary, binary(exit, weight * config_.binary));
      for (size_t t = 0; t < teachers_.size(); ++t)
        if (!teachers_[t].log_target.empty()) {
          const double sigma = config_.teachers[t].soften, factor = config_.teachers[t].weight * sigma * sigma;
          part(out.teachers[t], factor, divergence(exit, teachers_[t].pairs, teachers_[t].log_target, sigma, Direction::forward, weight * factor));
        }
      if (const int teacher = config_.teacher_of[exit]; teacher >= 0 && config_.distill > 0) {
        const double tau = config_.temperature, factor = config_.distill * tau * tau;
        part(out.distill, factor, divergence(exit, all_, log_softmax(scores(teacher, all_), tau), tau, config_.direction, weight * factor));
      }
    }
  }

 private:
  struct Scored {
    std::vector<int> pairs;
    Values log_target;  ///< empty where fewer than two pairs are scored
  };

  double logit(int pair, int exit) const { return logits_[static_cast<size_t>(pair) * exits_ + exit]; }
  double& gradient(int pair, int exit) { return gradients_[static_cast<size_t>(pair) * exits_ + exit]; }

  Values scores(int exit, const std::vector<int>& pairs) const {
    Values out;
    for (const int pair : pairs) out.push_back(logit(pair, exit));
    return out;
  }

  double cross_entropy(int exit, const std::vector<int>& pairs, const Values& log_target, double weight) {
    const Values log_q = log_softmax(scores(exit, pairs), 1);
    double loss = 0;
    for (size_t i = 0; i < pairs.size(); ++i) {
      const double p = std::exp(log_target[i]);
      loss -= p * log_q[i];
      gradient(pairs[i], exit) += weight * (std::exp(log_q[i]) - p);
    }
    return loss;
  }

  double divergence(int exit, const std::vector<int>& pairs, const Values& log_p, double tau, Direction direction, double weight) {
    const Values log_q = log_softmax(scores(exit, pairs), tau);
    double loss = 0;
    for (size_t i = 0; i < pairs.size(); ++i)
      loss += direction == Direction::forward ? std::exp(log_p[i]) * (log_p[i] - log_q[i]) : std::exp(log_q[i]) * (log_q[i] - log_p[i]);
    for (size_t i = 0; i < pairs.size(); ++i) {
      const double q = std::exp(log_q[i]);
      const double slope = direction == Direction::forward ? q - std::exp(log_p[i]) : q * (log_q[i] - log_p[i] - loss);
      gradient(pairs[i], exit) += weight * slope / tau;
    }
    return loss;
  }

  double binary(int exit, double weight) {
    double loss = 0;
    for (size_t i = 0; i < labelled_.size(); ++i) {
      const double s = logit(labelled_[i], exit), share = 1 / static_cast<double>(labelled_.size());
      loss += share * (softplus(s) - labels_[i] * s);
      gradient(labelled_[i], exit) += weight * share * (1 / (1 + std::exp(-s)) - labels_[i]);
    }
    return loss;
  }

  const LossConfig& config_;
  const double share_;
  const int exits_;
  const double* logits_;
  double* gradients_;
  std::vector<int> all_, labelled_;
  Values labels_;
  Values ranks_;  ///< ln of the labels as a distribution; empty where they rank nothing
  std::vector<Scored> teachers_;
};

}  // namespace

std::vector<int> nearest_anchors(int exits, const std::vector<int>& anchors) {
  std::vector<int> out(exits, -1);
  for (int exit = exits - 2, teacher = exits - 1; exit >= 0; --exit) {
    out[exit] = teacher;
    if (std::find(anchors.begin(), anchors.end(), exit) != anchors.end()) teacher = exit;
  }
  return out;
}

void validate(const LossConfig& config, int exits) {
  if (static_cast<int>(config.exit_weights.size()) != exits)
    reject("Expected a weight for each of " + std::to_string(exits) + " exits but received " + std::to_string(config.exit_weights.size()));
  for (const double weight : config.exit_weights) check_weight(weight, "exit weight");
  check_weight(config.rank, "weight of the cross-entropy");
  check_weight(config.binary, "weight of the binary cross-entropy");
  check_weight(config.distill, "weight of the self-distillation");
  check_temperature(config.temperature, "temperature of the self-distillation");
  for (const TeacherLoss& teacher : config.teachers) {
    check_weight(teacher.weight, "weight of a teacher");
    check_temperature(teacher.temperature, "temperature of a teacher");
    check_temperature(teacher.soften, "soften of a teacher");
  }
}

void validate(const Targets& targets, const LossConfig& config, int sequences) {
  const auto check_count = [&](size_t count, const std::string& name) {
    if (count != static_cast<size_t>(sequences)) reject("Expected " + name + " for each of " + std::to_string(sequences) + " pairs but received " + std::to_string(count));
  };
  check_count(targets.labels.size(), "a label");
  for (size_t i = 0; i < targets.labels.size(); ++i)
    if (targets.labels[i] < 0 || targets.labels[i] > 1)
      reject("Expected labels in [0, 1], or NaN, but that of pair " + std::to_string(i) + " is " + std::to_string(targets.labels[i]));
  if (targets.teachers.size() != config.teachers.size())
    reject("Expected scores of " + std::to_string(config.teachers.size()) + " teachers but received " + std::to_string(targets.teachers.size()));
  for (const std::vector<float>& scores : targets.teachers) {
    check_count(scores.size(), "a teacher's score");
    for (size_t i = 0; i < scores.size(); ++i)
      if (std::isinf(scores[i])) reject("Expected finite teacher scores, or NaN, but that of pair " + std::to_string(i) + " is infinite");
  }
}

void add_losses(const LossConfig& config, const Targets& targets, const std::vector<int32_t>& list_offsets, int first, int last, int lists,
                const std::vector<double>& logits, LossValue& value, std::vector<double>& gradients) {
  const size_t exits = config.exit_weights.size();
  gradients.assign(logits.size(), 0);
  value.exits.resize(exits);
  for (ExitLoss& exit : value.exits) exit.teachers.resize(config.teachers.size());
  for (int list = first; list < last; ++list) {
    const int begin = list_offsets[list], count = list_offsets[list + 1] - begin;
    const size_t at = static_cast<size_t>(begin - list_offsets[first]) * exits;
    List(config, targets, begin, count, 1.0 / lists, &logits[at], &gradients[at]).add(value);
  }
}

}  // namespace matryoshka::train
