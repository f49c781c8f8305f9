#include "engine/batch.h"

#include <limits>
#include <string>

#include "model/error.h"

namespace matryoshka {
namespace {

[[noreturn]] void reject(const std::string& message) { throw Error("ERR_INVALID_ARGUMENT", message); }

void check_offsets(const std::vector<int32_t>& offsets, size_t end, const char* name) {
  if (offsets.empty() || offsets.front() != 0 || static_cast<size_t>(offsets.back()) != end)
    reject(std::string("Expected ") + name + " to run from 0 to " + std::to_string(end));
  for (size_t i = 1; i < offsets.size(); ++i)
    if (offsets[i] <= offsets[i - 1]) reject(std::string("Expected ") + name + " to ascend strictly, but entry " + std::to_string(i) + " does not");
}

void check_ids(const std::vector<int32_t>& ids, int limit, const char* name) {
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= limit)
      reject(std::string("Expected ") + name + " in [0, " + std::to_string(limit) + ") but entry " + std::to_string(i) + " is " + std::to_string(ids[i]));
}

}  // namespace

void validate(const TokenBatch& batch, const Architecture& architecture) {
  const size_t tokens = batch.token_ids.size();
  check_offsets(batch.cu_seqlens, tokens, "cuSeqlens");
  check_offsets(batch.list_offsets, batch.cu_seqlens.size() - 1, "listOffsets");
  for (int i = 0; i < batch.sequences(); ++i) {
    const int length = batch.cu_seqlens[i + 1] - batch.cu_seqlens[i];
    if (length > architecture.max_tokens())
      throw Error("ERR_INPUT_TOO_LONG", "Expected at most " + std::to_string(architecture.max_tokens()) + " tokens but sequence " +
                                            std::to_string(i) + " has " + std::to_string(length));
  }
  check_ids(batch.token_ids, architecture.vocab, "tokenIds");
  if (batch.type_ids.empty()) return;
  if (batch.type_ids.size() != tokens) reject("Expected typeIds to be as long as tokenIds");
  check_ids(batch.type_ids, architecture.token_types, "typeIds");
}

void Scores::reset(int sequences, int count, bool compensated, int hidden) {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  const size_t size = static_cast<size_t>(sequences) * count;
  exits = count;
  logits.assign(size, kNone);
  estimates.assign(compensated ? size : 0, kNone);
  units.assign(compensated ? size : 0, kNone);
  states.assign(size * hidden, kNone);
  exit_layers.assign(sequences, 0);
  partial = false;
}

void Scores::drop_first(int count) {
  if (count == 0) return;
  const size_t sequences = exit_layers.size();
  for (std::vector<float>* values : {&logits, &estimates, &units, &states})
    values->erase(values->begin(), values->begin() + values->size() / sequences * count);
  exit_layers.erase(exit_layers.begin(), exit_layers.begin() + count);
}

}  // namespace matryoshka
