// What a transformer encoder is made of, as data: the forward pass reads this and nothing else about a family.
#pragma once

#include <cstdint>
#include <string>

namespace matryoshka {

enum class Activation : uint8_t { gelu, gelu_tanh, relu };

/// How a score is read off the hidden state of the scoring row.
enum class HeadKind : uint8_t {
  linear,             ///< w · h + b, one per exit layer (matryoshka.safetensors)
  query,              ///< (w + M q) · h + b, one per exit layer, q the scoring row of the query alone after the same layer
  dense_tanh_linear,  ///< w · tanh(D h + c) + b: BERT's pooler + classifier, RoBERTa's classification head
};

/// A post-norm bidirectional encoder with learned positions (BERT, XLM-RoBERTa).
struct Architecture {
  std::string family;  ///< config.json's model_type
  int layers = 0;
  int hidden = 0;        ///< H, a multiple of `heads`
  int heads = 0;
  int head_dim = 0;      ///< H / heads; attention scale is 1/sqrt(head_dim)
  int intermediate = 0;  ///< F, width of the MLP
  int vocab = 0;
  int positions = 0;        ///< rows of the position table
  int position_offset = 0;  ///< row of a sequence's first token: 0 in BERT, pad_id + 1 in RoBERTa
  int token_types = 0;      ///< rows of the token-type table
  float norm_eps = 0;
  Activation activation = Activation::gelu;
  HeadKind head = HeadKind::linear;
  bool own_head_everywhere = false;  ///< one head, applied to every layer (plain sequence classification)

  /// Longest sequence the position table allows.
  int max_tokens() const { return positions - position_offset; }
};

}  // namespace matryoshka
