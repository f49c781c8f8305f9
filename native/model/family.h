// The one table of model families: what each calls its tensors and how its config.json reads as an Architecture.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/architecture.h"
#include "model/config.h"

namespace matryoshka {

/// Tensor names without ".weight" and ".bias", relative to the family's prefix; "{}" stands for the layer, from 0.
struct EncoderNames {
  std::string_view word, position, type, embedding_norm;
  std::string_view query, key, value, output, attention_norm;
  std::string_view up, down, mlp_norm;
};

/// Where a position table's first row in use lies.
enum class PositionOffset : uint8_t { zero, after_padding };

struct Family {
  std::vector<std::string_view> model_types;  ///< config.json's model_type
  std::vector<std::string_view> prefixes;     ///< tried in turn: with a task's head the encoder is one of its members
  EncoderNames encoder;
  bool dense_in_encoder;   ///< the head's dense layer carries the prefix too (a pooler)
  std::string_view dense;  ///< head of a sequence-classification checkpoint: dense -> tanh -> classifier
  std::string_view classifier;
  PositionOffset position_offset;
  int default_pad;  ///< pad_token_id where config.json has none
};

/// The row of config.json's model_type; throws ERR_UNSUPPORTED_ARCHITECTURE when no row has it.
const Family& find_family(const Config& config);

/// Everything but the head. Throws ERR_CONFIG_INVALID for a value that is missing, of another type or out of range,
/// and ERR_UNSUPPORTED_ARCHITECTURE for one that is fine but not ours.
Architecture read_architecture(const Family& family, const Config& config);

/// Does config.json name a class with a classification head, whether or not the weights hold one?
bool says_classification(const Config& config);
/// Throws ERR_UNSUPPORTED_ARCHITECTURE when config.json says that the classification head has not exactly one output.
void require_one_label(const Config& config);

}  // namespace matryoshka
