// Every instantiation there is: included once by the emulator's object and once by nvcc's.
#pragma once

#include "cuda/instructions/entry.cuh"
#include "cuda/kernel_table.h"
#include "cuda/kernels/attention_fma.cuh"
#include "cuda/kernels/attention_mma.cuh"
#include "cuda/kernels/compact.cuh"
#include "cuda/kernels/decide.cuh"
#include "cuda/kernels/embed.cuh"
#include "cuda/kernels/gather.cuh"
#include "cuda/kernels/gemm_fma.cuh"
#include "cuda/kernels/gemm_mma.cuh"
#include "cuda/kernels/head.cuh"
#include "cuda/kernels/residual.cuh"
#include "cuda/kernels/training/activation.cuh"
#include "cuda/kernels/training/attention_backward.cuh"
#include "cuda/kernels/training/product.cuh"
#include "cuda/kernels/training/rows.cuh"

namespace matryoshka::cuda {

template <Activation kActivation>
Kernel fma_gemm_kernel() {
  return {"gemm f32", ENTRY(GemmArgs, gemm_fma<kActivation>), FmaTile::kThreads, FmaTile::kShared, false};
}
template <class E, Activation kActivation>
Kernel mma_gemm_kernel() {
  return {"gemm", ENTRY(GemmArgs, gemm_mma<E, kActivation>), BigTile<E>::kThreads, BigTile<E>::kShared, false};
}
template <int kDim>
Kernel fma_attention_kernel() {
  return {"attention f32", ENTRY(AttentionArgs, attention_fma<kDim>), AttentionFma<kDim>::kThreads, AttentionFma<kDim>::kShared, false};
}
template <class E, int kDim>
Kernel mma_attention_kernel() {
  return {"attention", ENTRY(AttentionArgs, attention_mma<E, kDim>), AttentionMma<E, kDim>::kThreads, AttentionMma<E, kDim>::kShared, false};
}

/// What does not depend on how products are formed.
template <class E>
ElementKernels row_kernels() {
  ElementKernels k{};
  k.embed[0] = {"embed", ENTRY(EmbedArgs, embed<E, kRowWidths[0]>), kRowThreads, 0, false};
  k.embed[1] = {"embed", ENTRY(EmbedArgs, embed<E, kRowWidths[1]>), kRowThreads, 0, false};
  k.residual[0] = {"residual", ENTRY(ResidualArgs, residual<E, kRowWidths[0]>), kRowThreads, 0, false};
  k.residual[1] = {"residual", ENTRY(ResidualArgs, residual<E, kRowWidths[1]>), kRowThreads, 0, false};
  k.head[0] = {"head", ENTRY(HeadArgs, head<E, kRowWidths[0]>), kRowThreads, 0, false};
  k.head[1] = {"head", ENTRY(HeadArgs, head<E, kRowWidths[1]>), kRowThreads, 0, false};
  return k;
}

inline ElementKernels single_kernels() {
  ElementKernels k = row_kernels<float>();
  k.gemm[0] = fma_gemm_kernel<Activation::none>();
  k.gemm[1] = fma_gemm_kernel<Activation::gelu>();
  k.gemm[2] = fma_gemm_kernel<Activation::gelu_tanh>();
  k.gemm[3] = fma_gemm_kernel<Activation::relu>();
  k.gemm[4] = fma_gemm_kernel<Activation::tanh>();
  k.attention[0] = fma_attention_kernel<kHeadDims[0]>();
  k.attention[1] = fma_attention_kernel<kHeadDims[1]>();
  k.attention[2] = fma_attention_kernel<kHeadDims[2]>();
  k.query_block = AttentionFma<32>::BM;
  return k;
}

template <class E>
ElementKernels half_kernels() {
  ElementKernels k = row_kernels<E>();
  k.gemm[0] = mma_gemm_kernel<E, Activation::none>();
  k.gemm[1] = mma_gemm_kernel<E, Activation::gelu>();
  k.gemm[2] = mma_gemm_kernel<E, Activation::gelu_tanh>();
  k.gemm[3] = mma_gemm_kernel<E, Activation::relu>();
  k.gemm[4] = mma_gemm_kernel<E, Activation::tanh>();
  k.attention[0] = mma_attention_kernel<E, kHeadDims[0]>();
  k.attention[1] = mma_attention_kernel<E, kHeadDims[1]>();
  k.attention[2] = mma_attention_kernel<E, kHeadDims[2]>();
  k.query_block = AttentionMma<E, 32>::BM;
  return k;
}

template <class E, bool kARows, bool kBRows>
Kernel product_kernel(const char* name) {
  using T = ProductTile<E, kARows, kBRows>;
  return {name, ENTRY(ProductArgs, product<E, kARows, kBRows>), T::kThreads, T::kShared, false};
}
template <class E, int kDim>
void attention_backward_kernels(Kernel& query, Kernel& key) {
  using A = AttentionBackward<E, kDim>;
  query = {"query gradient", ENTRY(AttentionBackwardArgs, attention_query_gradient<E, kDim>), A::kThreads, A::kShared, false};
  key = {"key gradient", ENTRY(AttentionBackwardArgs, attention_key_gradient<E, kDim>), A::kThreads, A::kShared, false};
}
template <class E, Activation kActivation>
void activation_kernels(TrainingKernels& k, int at) {
  k.activate[at] = {"activation", ENTRY(ActivateArgs, activate_all<E, kActivation, false>), kRowThreads, 0, false};
  k.activate_backward[at] = {"activation's gradient", ENTRY(ActivateArgs, activate_all<E, kActivation, true>), kRowThreads, 0, false};
}

template <class E>
TrainingKernels training_kernels() {
  TrainingKernels k{};
  k.forward = product_kernel<E, false, false>("linear");
  k.input_gradient = product_kernel<E, false, true>("linear's input gradient");
  k.weight_gradient = product_kernel<E, true, true>("linear's weight gradient");
  attention_backward_kernels<E, kHeadDims[0]>(k.query_gradient[0], k.key_gradient[0]);
  attention_backward_kernels<E, kHeadDims[1]>(k.query_gradient[1], k.key_gradient[1]);
  attention_backward_kernels<E, kHeadDims[2]>(k.query_gradient[2], k.key_gradient[2]);
  k.norm_forward[0] = {"norm", ENTRY(NormForwardArgs, norm_forward<E, kRowWidths[0]>), kRowThreads, 0, false};
  k.norm_forward[1] = {"norm", ENTRY(NormForwardArgs, norm_forward<E, kRowWidths[1]>), kRowThreads, 0, false};
  k.norm_backward[0] = {"norm's gradient", ENTRY(NormBackwardArgs, norm_backward<E, kRowWidths[0]>), kRowThreads, 0, false};
  k.norm_backward[1] = {"norm's gradient", ENTRY(NormBackwardArgs, norm_backward<E, kRowWidths[1]>), kRowThreads, 0, false};
  activation_kernels<E, Activation::gelu>(k, 0);
  activation_kernels<E, Activation::gelu_tanh>(k, 1);
  activation_kernels<E, Activation::relu>(k, 2);
  k.embedding_sum = {"embeddings", ENTRY(EmbeddingSumArgs, embedding_sum), kRowThreads, 0, false};
  k.gather_rows = {"gather rows", ENTRY(MoveRowsArgs, gather_rows<E>), kRowThreads, 0, false};
  k.add_rows = {"add rows", ENTRY(MoveRowsArgs, add_rows), kRowThreads, 0, false};
  k.sum_elements = {"sum rows", ENTRY(SumRowsArgs, sum_rows<E, false>), kRowThreads, 0, false};
  k.sum_floats = {"sum rows", ENTRY(SumRowsArgs, sum_rows<E, true>), kRowThreads, 0, false};
  k.narrow = {"narrow", ENTRY(NarrowArgs, narrow_all<E>), kRowThreads, 0, false};
  return k;
}

inline KernelTable kernel_table() {
  KernelTable t;
  t.training = training_kernels<Bf16>();
  t.f32 = single_kernels();
  t.bf16 = half_kernels<Bf16>();
  t.f16 = half_kernels<F16>();
  t.gather = {"gather", ENTRY(GatherArgs, gather), kRowThreads, 0, false};
  t.decide = {"decide", ENTRY(DecideArgs, decide), kDecideThreads, kDecideShared, false};
  t.compact = {"compact", ENTRY(CompactArgs, compact), kCompactThreads, kCompactThreads / 32 * 4, true};
  t.map_rows = {"map_rows", ENTRY(MapRowsArgs, map_rows), kRowThreads, 0, false};
  return t;
}

}  // namespace matryoshka::cuda
