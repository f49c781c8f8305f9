// Tensor cores: ldmatrix brings 8 × 8 blocks of 16-bit elements from shared memory in the layout that mma.sync wants.
// Layouts: simt/warp.h. Where the addresses come from: rows of the operands in 16-byte chunks,
//   A 16×16 from rows A[m][k]               row = L % 16,              chunk = 2k + L / 16      -> a0 … a3
//   B two 8-wide columns from rows W[n][k]  row = L % 8 + L / 16 · 8,  chunk = 2k + L / 8 % 2   -> b0 b1 | b0' b1'
//   B two 8-wide columns from rows V[k][n]  row = L % 16,              chunk = 2n + L / 16      -> b0 b1 | b0' b1', transposed
#pragma once

#include "cuda/instructions/element.cuh"

namespace matryoshka::cuda {

#if defined(__CUDACC__)

DEVICE void ldmatrix_x4(uint32_t (&r)[4], const Chunk* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
DEVICE void ldmatrix_x4_transposed(uint32_t (&r)[4], const Chunk* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// d += a · b for 16 × 8 outputs over k = 16, accumulated in single precision.
template <class E>
DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
DEVICE void mma<Bf16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  __trap();  // Turing has no bf16: the host refuses it
#endif
}
template <>
DEVICE void mma<F16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

#else

/// The row is copied by the lane that owns its address, before the warp meets.
inline void ldmatrix(uint32_t (&r)[4], const Chunk* row, bool transposed, simt::Site site) {
  if (reinterpret_cast<uintptr_t>(row) % 16) simt::fault("ldmatrix with a row that is not 16-byte aligned");
  simt::trace(simt::Space::shared, row, 16, site);
  const Chunk chunk = *row;
  uint16_t elements[8];
  for (int i = 0; i < 8; ++i) elements[i] = static_cast<uint16_t>(chunk.word[i / 2] >> (i % 2 * 16));
  simt::ldmatrix_x4(r, elements, transposed);
}
inline void ldmatrix_x4(uint32_t (&r)[4], const Chunk* row, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  ldmatrix(r, row, false, {file, line});
}
inline void ldmatrix_x4_transposed(uint32_t (&r)[4], const Chunk* row, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  ldmatrix(r, row, true, {file, line});
}

template <class E>
void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
inline void mma<Bf16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  simt::mma_bf16(d, a, b0, b1);
}
template <>
inline void mma<F16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  simt::mma_f16(d, a, b0, b1);
}

#endif

}  // namespace matryoshka::cuda
