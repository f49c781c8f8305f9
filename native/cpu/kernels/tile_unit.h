// Products by Intel's tile unit (AMX): 16 rows by 16 columns by 64 bytes of k an instruction, on the panels that the
// vector kernels read, whose rows of dwords are what a tile of weights holds.
//
// A row's sum takes k in ascending order, 64 bytes at a time, whatever the number of rows beside it.
#pragma once

#include "cpu/kernels/simd.h"

#ifdef __AMX_TILE__

#include <cstddef>
#include <cstring>

namespace {

/// Tiles 0 to 3 are sums, [2 of rows][2 of columns]; 4 and 5 hold rows of the input, 6 and 7 columns of weights.
class TileUnit {
 public:
  static constexpr int rows = 16;        ///< of a tile, and columns of one of weights
  static constexpr int step_bytes = 64;  ///< of k

  TileUnit() = default;
  TileUnit(const TileUnit&) = delete;
  TileUnit& operator=(const TileUnit&) = delete;
  ~TileUnit() {
    if (first_ != 0) _tile_release();
  }

  /// Rows of the two tiles of input from now on; sums are lost if that changes anything.
  void configure(int first, int second) {
    if (first == first_ && second == second_) return;
    first_ = first;
    second_ = second;
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } layout;
    for (int tile = 0; tile < 8; ++tile) {
      const int count = tile >= 6 ? rows : tile == 4 || tile < 2 ? first : second;
      layout.rows[tile] = static_cast<uint8_t>(count);
      layout.bytes[tile] = count ? step_bytes : 0;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(layout));
  }

 private:
  int first_ = 0, second_ = 0;
};

/// What a product reads: rows of bytes, and columns of weights as rows of dwords.
struct TileOperands {
  const std::byte* a;
  size_t a_stride;
  const std::byte* b;
  size_t b_stride;
  int dwords;  ///< of k
};

/// The last dwords of k, which do not fill a tile, continued by zeros.
struct TileRemainder {
  alignas(64) std::byte a[2 * TileUnit::rows][64];
  alignas(64) std::byte b[2][16][64];

  TileRemainder(const TileOperands& p, int rows, int columns) {
    const int first = p.dwords / 16 * 16, count = p.dwords - first;
    std::memset(this, 0, sizeof *this);
    for (int r = 0; r < rows; ++r) std::memcpy(a[r], p.a + r * p.a_stride + first * 4, count * 4);
    for (int c = 0; c < columns; ++c)
      for (int s = 0; s < count; ++s) std::memcpy(b[c][s], p.b + (first + s) * p.b_stride + c * 64, 64);
  }
};

inline __attribute__((always_inline)) void tiles_see_memory() { __asm__ volatile("" ::: "memory"); }

template <bool integers, int R, int N>
inline __attribute__((always_inline)) void tile_step(const std::byte* a, size_t a_stride, const std::byte* a_below, const std::byte* b, const std::byte* b_beside, size_t b_stride) {
  _tile_loadd(6, b, b_stride);
  _tile_loadd(4, a, a_stride);
  if constexpr (N == 2) _tile_loadd(7, b_beside, b_stride);
  if constexpr (R == 2) _tile_loadd(5, a_below, a_stride);
  if constexpr (integers) {
    _tile_dpbusd(0, 4, 6);
    if constexpr (N == 2) _tile_dpbusd(1, 4, 7);
    if constexpr (R == 2) _tile_dpbusd(2, 5, 6);
    if constexpr (R == 2 && N == 2) _tile_dpbusd(3, 5, 7);
  } else {
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (N == 2) _tile_dpbf16ps(1, 4, 7);
    if constexpr (R == 2) _tile_dpbf16ps(2, 5, 6);
    if constexpr (R == 2 && N == 2) _tile_dpbf16ps(3, 5, 7);
  }
}

template <int R, int N>
inline __attribute__((always_inline)) void zero_sums() {
  _tile_zero(0);
  if constexpr (N == 2) _tile_zero(1);
  if constexpr (R == 2) _tile_zero(2);
  if constexpr (R == 2 && N == 2) _tile_zero(3);
}

template <int R, int N>
inline __attribute__((always_inline)) void store_sums(std::byte* out, size_t stride) {
  std::byte* const below = out + TileUnit::rows * stride;
  _tile_stored(0, out, stride);
  if constexpr (N == 2) _tile_stored(1, out + 64, stride);
  if constexpr (R == 2) _tile_stored(2, below, stride);
  if constexpr (R == 2 && N == 2) _tile_stored(3, below + 64, stride);
}

/// out[rows][16 N] <- a b, for the rows that the unit is configured for: R tiles of them. Strides in bytes.
/// `between(i, n)` is called for i = 0 … n-1 while tiles are busy: vector work that does not wait for this product.
template <bool integers, int R, int N, class Between>
inline __attribute__((always_inline)) void tile_product(const TileOperands& p, int rows, std::byte* out, size_t out_stride, const Between& between) {
  zero_sums<R, N>();
  tiles_see_memory();
  const std::byte *a = p.a, *b = p.b;
  const int steps = (p.dwords + 15) / 16, whole = p.dwords / 16;
  for (int s = 0; s < whole; ++s, a += 64, b += 16 * p.b_stride) {
    tile_step<integers, R, N>(a, p.a_stride, a + TileUnit::rows * p.a_stride, b, b + 64, p.b_stride);
    between(s, steps);
  }
  if (whole < steps) {
    const TileRemainder rest(p, rows, N);
    tiles_see_memory();
    tile_step<integers, R, N>(rest.a[0], 64, rest.a[TileUnit::rows], rest.b[0][0], rest.b[1][0], 64);
    tiles_see_memory();
    between(whole, steps);
  }
  store_sums<R, N>(out, out_stride);
}

}  // namespace

#endif
