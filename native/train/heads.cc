#include "train/heads.h"

namespace matryoshka::train {

double linear_logit(const Layout& layout, const float* weights, int exit, const float* row) {
  const Layout::Head& head = layout.heads[exit];
  double logit = weights[head.bias];
  for (int i = 0; i < layout.architecture.hidden; ++i) logit += static_cast<double>(weights[head.weight + i]) * row[i];
  return logit;
}

void add_row_gradient(const Layout& layout, const float* weights, const TokenBatch& batch, const QueryHeads& query_heads, int exit, int sequence,
                      double logit_gradient, float* row) {
  const float d = static_cast<float>(logit_gradient);
  if (layout.architecture.head == HeadKind::query) return query_heads.add_row_gradient(batch, exit, sequence, d, row);
  const float* const weight = weights + layout.heads[exit].weight;
  for (int i = 0; i < layout.architecture.hidden; ++i) row[i] += d * weight[i];
}

void add_head_gradients(const Layout& layout, const TokenBatch& batch, const QueryHeads& query_heads, const ExitRows& rows,
                        const std::vector<double>& logit_gradients, int exit, float* gradients) {
  const auto logit_gradient = [&](int s) { return logit_gradients[s * layout.heads.size() + exit]; };
  double bias = 0;
  for (int s = batch.queries; s < batch.sequences(); ++s) bias += logit_gradient(s);
  gradients[layout.heads[exit].bias] += static_cast<float>(bias);
  if (layout.architecture.head == HeadKind::query) return query_heads.add_weight_gradients(layout, batch, rows, exit, gradients);
  const int hidden = layout.architecture.hidden;
  std::vector<double> weight(hidden);
  for (int s = 0; s < batch.sequences(); ++s) {
    const float* const x = rows.at(exit, s);
    for (int i = 0; i < hidden; ++i) weight[i] += logit_gradient(s) * x[i];
  }
  for (int i = 0; i < hidden; ++i) gradients[layout.heads[exit].weight + i] += static_cast<float>(weight[i]);
}

void carry_forth(const Layout& layout, std::vector<double>& logits) {
  const size_t exits = layout.heads.size();
  for (size_t first = 0; first < logits.size(); first += exits)
    for (size_t e = 1; e < exits; ++e) logits[first + e] += layout.heads[e].carry * (logits[first + e - 1] - logits[first + e]);
}

void carry_back(const Layout& layout, std::vector<double>& gradients) {
  const size_t exits = layout.heads.size();
  for (size_t first = 0; first < gradients.size(); first += exits)
    for (size_t e = exits; e-- > 1;) {
      const double carried = layout.heads[e].carry * gradients[first + e];
      gradients[first + e] -= carried;
      gradients[first + e - 1] += carried;
    }
}

}  // namespace matryoshka::train
