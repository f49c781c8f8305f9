// The training kernels that go with a variant of the forward kernels.
#pragma once

#include "cpu/cpu_features.h"
#include "train/cpu/kernels/kernels.h"

namespace matryoshka::train {

const TrainKernels& train_kernels(const cpu::Variant& variant);

}  // namespace matryoshka::train
