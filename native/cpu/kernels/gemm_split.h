// Products in f32 by bf16 tiles: operands as sums of bf16 parts, whose products are exact in f32.
//
// x = x₁ + x₂ + x₃ with 8 bits of significand each, so that three hold an f32, two an f16 and one a bf16. Products of
// parts are summed in the tiles' f32; those below 2⁻²⁴ of the whole are left out, as rounding would. Source: Henry, Tang
// and Heinecke, Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations, ARITH 2019.
#pragma once

#include "cpu/kernels/gemm_tiles.h"

#ifdef __AMX_TILE__

namespace {

constexpr int kParts = 3;
constexpr int kSplitRows = 160;  // of the input, whose parts stay in cache

/// Parts a weight of a stored format has.
constexpr int parts_of(Format format) { return format == Format::f32 ? 3 : format == Format::f16 ? 2 : 1; }

/// Places of parts in scratch. k is padded to whole tiles; padding is zero.
struct SplitScratch {
  size_t input_part, input_stride;  ///< bytes: [kParts][kSplitRows][k] bf16
  size_t weight_part;               ///< bytes: [kParts][k / 2][kWidth] pairs of bf16
  size_t weights, end;

  explicit SplitScratch(int k) {
    const size_t padded = (static_cast<size_t>(k) + 31) / 32 * 32;
    input_stride = padded * 2;
    input_part = kSplitRows * input_stride;
    weights = kParts * input_part;
    weight_part = padded / 2 * kWidth * 4;
    end = weights + kParts * weight_part;
  }
};

/// The next part of x, which is left with what that misses.
inline __m256i next_part(__m512& x) {
  const __m256i part = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
  x = _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(part), 16)));
  return part;
}

void split_input(const Gemm& g, int first, int rows, const SplitScratch& at) {
  std::byte* const scratch = reinterpret_cast<std::byte*>(g.scratch);
  for (int r = 0; r < rows; ++r) {
    const float* row = reinterpret_cast<const float*>(g.input.row(first + r));
    std::byte* out = scratch + r * at.input_stride;
    for (size_t i = 0; i < at.input_stride / 2; i += 16, out += 32) {
      const int left = g.weight->k - static_cast<int>(i);
      __m512 x = left > 0 ? Simd::load(row + i, left) : Simd::zero();
      for (int p = 0; p < kParts; ++p) _mm256_store_si256(reinterpret_cast<__m256i*>(out + p * at.input_part), next_part(x));
    }
  }
}

/// Elements [k][kWidth] of a panel as stored -> pairs along k, part by part.
void split_weights(const Gemm& g, const std::byte* panel, const SplitScratch& at) {
  const Format format = g.weight->format;
  const int k = g.weight->k, parts = parts_of(format);
  const auto load = [&](int row, int column) -> __m512 {
    const size_t i = static_cast<size_t>(row) * kWidth + column;
    if (row >= k) return Simd::zero();
    if (format == Format::f32) return Simd::load(reinterpret_cast<const float*>(panel) + i);
    const uint16_t* half = reinterpret_cast<const uint16_t*>(panel) + i;
    return format == Format::f16 ? Simd::load_f16(half, 16) : Simd::load_bf16(half, 16);
  };
  std::byte* out = reinterpret_cast<std::byte*>(g.scratch) + at.weights;
  for (size_t s = 0; s < at.input_stride / 4; ++s)
    for (int c = 0; c < kWidth; c += 16, out += 64) {
      __m512 low = load(2 * static_cast<int>(s), c), high = load(2 * static_cast<int>(s) + 1, c);
      for (int p = 0; p < parts; ++p) {
        const __m512i a = _mm512_cvtepu16_epi32(next_part(low)), b = _mm512_cvtepu16_epi32(next_part(high));
        _mm512_store_si512(out + p * at.weight_part, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
      }
    }
}

/// The parts' products, small ones first, of rows from `row` of the split input.
template <int R>
void split_product(const Gemm& g, const SplitScratch& at, int row, FinishedBlock<DotF32>& finished) {
  const std::byte* const scratch = reinterpret_cast<const std::byte*>(g.scratch);
  const int parts = parts_of(g.weight->format), steps = static_cast<int>(at.input_stride / TileUnit::step_bytes);
  const int passes = parts == 1 ? 3 : parts == 2 ? 5 : 6;
  zero_sums<R, 2>();
  for (int order = kParts - 1, pass = 0; order >= 0; --order)
    for (int w = 0; w <= order && w < parts; ++w, ++pass) {
      const std::byte* a = scratch + (order - w) * at.input_part + row * at.input_stride;
      const std::byte* b = scratch + at.weights + w * at.weight_part;
      for (int s = 0; s < steps; ++s, a += 64, b += 16 * kWidth * 4) {
        tile_step<false, R, 2>(a, at.input_stride, a + TileUnit::rows * at.input_stride, b, b + 64, kWidth * 4);
        finished.store(pass * steps + s, passes * steps);
      }
    }
  store_sums<R, 2>(finished.next_sums(), finished.stride);
}

/// f32 rows times panels of weights in a stored format.
void split_times_rows(const Gemm& g) {
  const SplitScratch at(g.weight->k);
  TileUnit unit;
  FinishedBlock<DotF32> finished(g);
  for (int first = 0; first < g.rows; first += kSplitRows) {
    const int count = g.rows - first < kSplitRows ? g.rows - first : kSplitRows;
    split_input(g, first, count, at);
    const std::byte* panel = g.weight->data;
    for (int column = 0; column < g.weight->n; column += kWidth, panel += g.weight->panel_bytes) {
      split_weights(g, panel, at);
      tiles_see_memory();
      each_block(unit, count, [&](auto tiles, int row, int rows) {
        split_product<decltype(tiles)::value>(g, at, row, finished);
        finished.replace(first + row, rows, column);
      });
    }
  }
  finished.store(0, 1);
}

}  // namespace

#endif
