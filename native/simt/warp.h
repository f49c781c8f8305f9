// Warp collectives with data: shuffles, ldmatrix and mma.sync, with the fragment layouts of the PTX manual.
//
// lane L, g = L / 4, t = L % 4; a 32-bit register holds two 16-bit elements, the lower column or k in the lower half.
//   mma.m16n8k16, row.col   A  a0: row g,   k 2t, 2t+1      a1: row g+8, k 2t, 2t+1
//                              a2: row g,   k 2t+8, 2t+9    a3: row g+8, k 2t+8, 2t+9
//                           B  b0: k 2t, 2t+1, column g     b1: k 2t+8, 2t+9, column g
//                         C/D  d0, d1: row g, columns 2t, 2t+1    d2, d3: row g+8, columns 2t, 2t+1
//   ldmatrix.x4             lanes 8i … 8i+7 bring the addresses of rows 0 … 7 of matrix i (16 aligned bytes each)
//                           register i = matrix i, row L/4, columns 2(L%4), +1; transposed: rows 2(L%4), +1, column L/4
#pragma once

#include <cstdint>

namespace matryoshka::simt {

float shuffle_xor(float value, int mask);
int shuffle_up(int value, int distance);

/// The lane reads its row itself, before the warp meets, so that the sanitizers know who read what.
void ldmatrix_x4(uint32_t (&out)[4], const uint16_t (&row)[8], bool transposed);

/// d += a · b, sums in single precision with k ascending.
void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void mma_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

}  // namespace matryoshka::simt
