// What decoders will ask of the kernels, instantiated for nothing but its budgets: MiniCPM has heads of 64 and SwiGLU,
// Mistral heads of 128, Gemma 2 capped scores and GeGLU.
#include "cuda/kernels/attention_mma.cuh"
#include "cuda/kernels/gemm_fma.cuh"
#include "cuda/kernels/gemm_mma.cuh"
#include "cuda/kernels/residual.cuh"
#include "cuda/kernels/rope.cuh"

namespace matryoshka::cuda {

template __global__ void attention_mma<Bf16, 64, Causal<false>>(CausalArgs);
template __global__ void attention_mma<Bf16, 128, Causal<false>>(CausalArgs);
template __global__ void attention_mma<Bf16, 128, Causal<true>>(CausalArgs);
template __global__ void gemm_mma<Bf16, Activation::silu, true>(GemmArgs);
template __global__ void gemm_mma<Bf16, Activation::gelu_tanh, true>(GemmArgs);
template __global__ void gemm_fma<Activation::silu, true>(GemmArgs);
template __global__ void gemm_fma<Activation::gelu_tanh, true>(GemmArgs);
template __global__ void residual<Bf16, 2048, Norm::rms>(ResidualArgs);
template __global__ void residual<Bf16, 2048, Norm::rms_plus_one>(ResidualArgs);
template __global__ void rope<float, 64>(RopeArgs);
template __global__ void rope<Bf16, 64>(RopeArgs);
template __global__ void rope<Bf16, 128>(RopeArgs);

}  // namespace matryoshka::cuda
