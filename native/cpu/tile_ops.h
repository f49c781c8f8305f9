// The ops of one tile on one thread.
#pragma once

#include <functional>
#include <utility>

#include "cpu/batch_state.h"
#include "cpu/packed_model.h"
#include "cpu/workspace.h"
#include "engine/backend.h"

namespace matryoshka::cpu {

class TileOps final : public Ops {
 public:
  /// `queries_ready` returns once the queries' heads of this step have written what documents' read.
  TileOps(const Checkpoint& checkpoint, const Kernels& kernels, const PackedModel& model, BatchState& state, Workspace& workspace, Rows rows, Tile tile,
          std::function<void()> queries_ready)
      : checkpoint_(checkpoint), a_(checkpoint.architecture()), kernels_(kernels), model_(model), state_(state), workspace_(workspace), rows_(rows), tile_(tile),
        queries_ready_(std::move(queries_ready)) {}

  void embed() override;
  void gather() override;
  void linear(int layer, Projection which, Slot in, Slot out) override;
  void attention() override;
  void residual(int layer, Site site) override;
  void head(int exit) override;

 private:
  int row_count() const;
  Rows2d slot(Slot which) const;
  double* head_vector(int exit, int query) const;
  /// head_vector <- w + M row
  void condition(int exit, int query, const float* row);
  /// The slot as the kernels multiply it.
  Rows2d input(Slot which, const Panels& weight);

  const Checkpoint& checkpoint_;
  const Architecture& a_;
  const Kernels& kernels_;
  const PackedModel& model_;
  BatchState& state_;
  Workspace& workspace_;
  const Rows rows_;
  const Tile tile_;
  const std::function<void()> queries_ready_;
  Element hidden_as_ = Element::f32;  // integer_input or bf16_input holds hidden
};

}  // namespace matryoshka::cpu
