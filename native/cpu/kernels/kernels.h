// The table of kernels one instruction set provides, and the operands they take. Everything here is plain data:
// kernels are compiled once per instruction set, with flags of their own, and reached only through this table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/architecture.h"
#include "model/tensor.h"

namespace matryoshka::cpu {

/// Elements of an activation matrix. u8 rows carry a scale and a zero point of their own; so do u16 rows, which hold the
/// same numbers.
enum class Element : uint8_t { f32, bf16, u8, u16 };

constexpr size_t size_of(Element e) { return e == Element::f32 ? 4 : e == Element::u8 ? 1 : 2; }

/// How packed weights are stored.
enum class Format : uint8_t {
  f32,       ///< times f32 activations
  f16,       ///< widened to f32 one panel at a time
  bf16,      ///< likewise
  bf16_dot,  ///< pairs along k, times bf16 activations
  s8_dot,    ///< quads along k, times u8 activations
  s16_dot,   ///< the same numbers, pairs along k, times u16 activations: where no instruction multiplies bytes exactly
};

constexpr bool integers(Format format) { return format == Format::s8_dot || format == Format::s16_dot; }

/// What weights of a format are multiplied by.
constexpr Element input_of(Format format) {
  if (format == Format::s8_dot) return Element::u8;
  if (format == Format::s16_dot) return Element::u16;
  return format == Format::bf16_dot ? Element::bf16 : Element::f32;
}

/// Elements of a dword of a panel, or 1 where it is widened to dwords.
constexpr int per_step(Format format) { return format == Format::s8_dot ? 4 : format == Format::s16_dot || format == Format::bf16_dot ? 2 : 1; }

/// What a panel of `width` columns takes, padding aside.
constexpr size_t panel_size(Format format, int k, int width) {
  const size_t steps = static_cast<size_t>((k + per_step(format) - 1) / per_step(format));
  return steps * width * (format == Format::f16 || format == Format::bf16 ? 2 : 4);
}

/// A weight matrix [n, k] as panels of `width` output columns. A panel is `steps` rows of `width` dwords, a dword being
/// what one step takes of k: one f32, two bf16 or s16, or four s8. f16 and bf16 panels hold 16-bit values instead of dwords.
/// Columns beyond n and elements beyond k are zero.
struct Panels {
  Format format = Format::f32;
  int n = 0, k = 0;
  const std::byte* data = nullptr;
  size_t panel_bytes = 0;
  const float* bias = nullptr;    ///< [panels × width]
  const float* scale = nullptr;   ///< [panels × width], of integers: weight = scale * s8
  const int32_t* sums = nullptr;  ///< [panels × width], of integers: sum of a column's s8
};

/// Row-major activations; stride in bytes. Padding beyond a row's columns must be finite: a step may multiply it by zero.
struct Rows2d {
  std::byte* data = nullptr;
  size_t stride = 0;
  Element element = Element::f32;
  float* scale = nullptr;   ///< u8, u16: [rows]; value = scale * (u8 - zero)
  int32_t* zero = nullptr;  ///< u8, u16: [rows]

  std::byte* row(int r) const { return data + static_cast<size_t>(r) * stride; }
};

enum class Epilogue : uint8_t { none, gelu, gelu_tanh, relu };

constexpr Epilogue epilogue_of(Activation activation) {
  return activation == Activation::relu ? Epilogue::relu : activation == Activation::gelu_tanh ? Epilogue::gelu_tanh : Epilogue::gelu;
}

/// output[rows, n] <- epilogue(input[rows, k] weightᵀ + bias), as f32 or bf16.
struct Gemm {
  int rows = 0;
  Rows2d input;
  const Panels* weight = nullptr;
  Rows2d output;
  Epilogue epilogue = Epilogue::none;
  float* scratch = nullptr;  ///< Kernels::gemm_scratch bytes, on a line of cache; none is needed where weights multiply as they are packed
};

/// One sequence, all heads: context <- softmax(query keysᵀ / sqrt(head_dim)) values.
struct Attention {
  int queries = 0, keys = 0;
  int heads = 0, head_dim = 0;
  Rows2d query;    ///< f32 or bf16; key and value alike
  Rows2d key;
  Rows2d value;
  Rows2d context;  ///< f32 or bf16
  std::byte* scratch = nullptr;  ///< Kernels::attention_scratch bytes
};

/// hidden <- norm(hidden + branch); both f32.
struct ResidualNorm {
  int rows = 0, n = 0;
  Rows2d hidden, branch;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float eps = 0;
};

/// A row of a matrix as the checkpoint stores it.
struct StoredRow {
  const std::byte* data = nullptr;
  StoredType type = StoredType::f32;
};

/// out[n] <- norm(word + position + type).
struct EmbedRow {
  int n = 0;
  StoredRow word, position, type;
  float* out = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float eps = 0;
};

/// `columns` rows of a stored matrix [n, k] -> one panel, with its scales and sums if of integers.
struct Pack {
  const StoredRow* rows = nullptr;  ///< [columns]
  int columns = 0;                  ///< at most width
  int k = 0;
  Format format = Format::f32;
  std::byte* panel = nullptr;
  float* scale = nullptr;
  int32_t* sums = nullptr;
  float* scratch = nullptr;  ///< width × (k rounded up to 16) floats
};

struct Kernels {
  int width;      ///< columns of a panel
  bool bf16_dot;  ///< bf16_dot weights and bf16 attention run in hardware
  Format int8;    ///< how int8 weights are packed: s8_dot, or s16_dot
  void (*pack)(const Pack&);
  void (*gemm)(const Gemm&);
  size_t (*gemm_scratch)(int k);
  void (*attention)(const Attention&);
  size_t (*attention_scratch)(int keys, int head_dim);
  void (*residual_norm)(const ResidualNorm&);
  void (*embed_row)(const EmbedRow&);
  void (*convert)(int rows, int n, const Rows2d& from, const Rows2d& to);  ///< f32 -> bf16, or quantized row by row to what int8 weights multiply
};

}  // namespace matryoshka::cpu
