// Loads and stores of rows in whatever element type a matrix has, and the passes that only move or add.
#pragma once

#include "cpu/kernels/attention.h"
#include "train/cpu/kernels/kernels.h"

namespace {

using matryoshka::train::Interleave;
using matryoshka::train::Transpose;

/// Elements [i, i + n) of a row, as many as a vector holds; zero beyond.
inline Simd::F load_row(const Rows2d& m, int row, int i, int n) {
  if (m.element == Element::f32) return Simd::load(reinterpret_cast<const float*>(m.row(row)) + i, n);
  return Simd::load_bf16(reinterpret_cast<const uint16_t*>(m.row(row)) + i, n);
}

inline void store_row(const Rows2d& m, int row, int i, Simd::F x, int n) {
  if (m.element == Element::f32) Simd::store(reinterpret_cast<float*>(m.row(row)) + i, x, n);
  else Simd::store_bf16(reinterpret_cast<uint16_t*>(m.row(row)) + i, x, n);
}

void convert_rows(int rows, int n, const Rows2d& from, const Rows2d& to) {
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < n; i += Simd::width) store_row(to, r, i, load_row(from, r, i, n - i), n - i);
}

void accumulate(int rows, int n, const Rows2d& from, const Rows2d& to) {
  for (int r = 0; r < rows; ++r) {
    const float* x = reinterpret_cast<const float*>(from.row(r));
    float* y = reinterpret_cast<float*>(to.row(r));
    for (int i = 0; i < n; i += Simd::width) Simd::store(y + i, Simd::add(Simd::load(y + i, n - i), Simd::load(x + i, n - i)), n - i);
  }
}

void row_sums(int rows, int n, const Rows2d& from, float* to) {
  for (int r = 0; r < rows; ++r) {
    Simd::F sum = Simd::zero();
    for (int i = 0; i < n; i += Simd::width) sum = Simd::add(sum, load_row(from, r, i, n - i));
    to[r] += Simd::sum(sum);
  }
}

/// Columns of one row as bf16, zero up to a whole panel.
inline void narrow_columns(const Rows2d& source, int row, int columns, uint16_t* out) {
  for (int c = 0; c < kWidth; c += Simd::width) {
    Simd::store_bf16(out + c, c < columns ? load_row(source, row, c, columns - c) : Simd::zero(), Simd::width);
  }
}

void interleave(const Interleave& a) {
  if (!a.pairs) {
    float* out = reinterpret_cast<float*>(a.panel);
    for (int r = 0; r < a.rows; ++r, out += kWidth)
      for (int c = 0; c < kWidth; c += Simd::width) Simd::store(out + c, c < a.columns ? load_row(a.source, r, c, a.columns - c) : Simd::zero());
    return;
  }
  std::byte* out = a.panel;
  const bool whole = a.source.element == Element::bf16 && a.columns >= kWidth;
  uint16_t narrow[2][kWidth];
  for (int r = 0; r < a.rows; r += 2) {
    const uint16_t *low = narrow[0], *high = r + 1 < a.rows ? narrow[1] : nullptr;
    if (whole) {
      low = reinterpret_cast<const uint16_t*>(a.source.row(r));
      high = high ? reinterpret_cast<const uint16_t*>(a.source.row(r + 1)) : nullptr;
    } else {
      narrow_columns(a.source, r, a.columns, narrow[0]);
      if (high) narrow_columns(a.source, r + 1, a.columns, narrow[1]);
    }
    for (int c = 0; c < kWidth; c += Simd::width, out += Simd::width * 4)
      Simd::store_int(out, Simd::pair(low + c, high ? high + c : nullptr, Simd::width));
  }
}

/// Blocks of a vector's width of dwords square; a dword is an f32 or two bf16 of neighbouring rows.
void transpose_rows(const Transpose& a) {
  const bool pairs = a.source.element == Element::bf16;
  const int per_dword = pairs ? 2 : 1, step = Simd::width * per_dword, bytes = 4 / per_dword;
  for (int r = 0; r < a.rows; r += step)
    for (int c = 0; c < a.columns; c += Simd::width) {
      Simd::I block[Simd::width];
      for (int i = 0; i < Simd::width; ++i) {
        const int row = r + i * per_dword;
        const auto at = [&](int which) { return a.source.row(which) + c * bytes; };
        if (row >= a.rows) block[i] = Simd::zero_int();
        else if (!pairs) block[i] = Simd::load_bytes(at(row), (a.columns - c) * 4);
        else {
          const uint16_t* high = row + 1 < a.rows ? reinterpret_cast<const uint16_t*>(at(row + 1)) : nullptr;
          block[i] = Simd::pair(reinterpret_cast<const uint16_t*>(at(row)), high, a.columns - c);
        }
      }
      Simd::transpose(block);
      const int count = a.rows - r < step ? a.rows - r : step;
      for (int i = 0; i < Simd::width && c + i < a.columns; ++i) {
        std::byte* out = a.target.row(c + i) + (a.first + r) * bytes;
        if (count == step) {
          Simd::store_int(out, block[i]);
        } else {  // neighbours beyond `count` are another thread's
          std::byte whole[Simd::width * 4];
          Simd::store_int(whole, block[i]);
          __builtin_memcpy(out, whole, count * bytes);
        }
      }
    }
}

}  // namespace
