#include "train/cpu/kernel_tables.h"

#include <map>

namespace matryoshka::train {

extern const TrainKernels portable_train_kernels;
#if defined(__x86_64__)
extern const TrainKernels avx2_train_kernels, avx512_train_kernels, avx512_bf16_train_kernels, amx_train_kernels;
#elif defined(__aarch64__)
extern const TrainKernels neon_train_kernels, neon_bf16_train_kernels;
#endif

const TrainKernels& train_kernels(const cpu::Variant& variant) {
  // Integer dot products are of no use here, so variants that differ in them share a table.
  static const std::map<std::string, const TrainKernels*> tables = {
#if defined(__x86_64__)
      {"amx", &amx_train_kernels},
      {"avx512_bf16", &avx512_bf16_train_kernels}, {"avx512_vnni", &avx512_train_kernels}, {"avx512", &avx512_train_kernels},
      {"avx2_vnni", &avx2_train_kernels},          {"avx2", &avx2_train_kernels},
#elif defined(__aarch64__)
      {"neon_bf16", &neon_bf16_train_kernels},     {"neon_dot", &neon_train_kernels},      {"neon", &neon_train_kernels},
#endif
      {"portable", &portable_train_kernels},
  };
  return *tables.at(variant.name);
}

}  // namespace matryoshka::train
