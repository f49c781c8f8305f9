#include "train/cpu/turn_memory.h"

#include <new>
#include <string>

#include "model/error.h"

namespace matryoshka::train {

void TurnMemory::prepare(const Layout& layout, const std::vector<uint8_t>& skipped, const TurnSize& size) {
  const Architecture& a = layout.architecture;
  const cpu::Element element = size.element;
  size_ = size;
  hidden_size_ = a.hidden;
  arena_.clear();

  input_of_.assign(a.layers, 0);
  for (int l = 1; l < a.layers; ++l) input_of_[l] = skipped[l - 1] ? input_of_[l - 1] : l;

  layers_.assign(size.recompute ? 2 : a.layers, {});
  for (size_t i = 0; i < layers_.size(); ++i) {
    LayerMemory& layer = layers_[i];
    const bool scoring = !size.recompute && static_cast<int>(i) + 1 == a.layers;
    const int rows = scoring ? size.sequences : size.tokens;
    arena_.matrix(layer.input, size.tokens, a.hidden, element);
    arena_.matrix(layer.key_value, size.tokens, 2 * a.hidden, element);
    for (cpu::Rows2d* m : {&layer.query, &layer.context, &layer.attended, &layer.hat[0], &layer.hat[1]}) arena_.matrix(*m, rows, a.hidden, element);
    arena_.matrix(layer.mlp, rows, a.intermediate, element);
    for (float*& inverse : layer.inverse) arena_.array(inverse, rows);
  }
  kept.assign(size.recompute ? a.layers : 0, {});
  for (cpu::Rows2d& m : kept) arena_.matrix(m, size.tokens, a.hidden, cpu::Element::f32);

  for (int parity = 0; parity < 2; ++parity) {
    for (int p = 0; p < kProjections; ++p) arena_.matrix(output_gradients_[parity].of[p], layout.blocks[0].linear[p].out, size.tokens, element);
    arena_.array(norm_partials_[parity], static_cast<size_t>(size.tiles) * 4 * a.hidden);
  }
  arena_.array(embedding_partials_, static_cast<size_t>(size.tiles) * 2 * a.hidden);
  arena_.array(exit_rows_, layout.heads.size() * size.sequences * a.hidden);
  for (cpu::Rows2d* m : {&hidden, &hidden_gradient}) arena_.matrix(*m, size.tokens, a.hidden, cpu::Element::f32);
  for (cpu::Rows2d* m : {&scoring, &scoring_gradient}) arena_.matrix(*m, size.sequences, a.hidden, cpu::Element::f32);
  arena_.matrix(scoring_input, size.sequences, a.hidden, element);
  arena_.matrix(embedding_hat, size.tokens, a.hidden, element);
  arena_.array(embedding_inverse, size.tokens);
  try {
    arena_.place();
  } catch (const std::bad_alloc&) {
    throw Error("ERR_OUT_OF_MEMORY", "Expected " + std::to_string(arena_.bytes()) + " bytes of memory for a turn of " + std::to_string(size.tokens) +
                                         " tokens but the system gave none; lower turnTokens, shorten the lists, or recompute activations");
  }
  // Products take pairs, and the last layer fills one column a sequence: what follows an odd one must be a number.
  if (element != cpu::Element::bf16 || size.sequences % 2 == 0) return;
  for (int p = 0; p < kProjections; ++p)
    for (int r = 0; r < layout.blocks[0].linear[p].out; ++r) std::memset(output_gradients(a.layers - 1).of[p].row(r) + size.sequences * 2, 0, 2);
}

}  // namespace matryoshka::train
