// The training pass on a GPU, or its emulator: the encoder forth and back there, heads and whatever follows them here.
#pragma once

#include <memory>

#include "cuda/stream.h"
#include "train/train_backend.h"

namespace matryoshka::train {

/// In bf16 with sums, the residual stream and gradients in f32. Two round trips a turn: scoring rows come back and their
/// gradients go, then the gradient comes back. No sum depends on the order in which anything runs. `layout` must outlive the
/// object. Throws ERR_UNSUPPORTED_ARCHITECTURE for sizes that no kernel has, ERR_OUT_OF_MEMORY.
std::unique_ptr<TrainBackend> make_cuda_train_backend(const Layout& layout, std::unique_ptr<cuda::Stream> stream, int threads);

}  // namespace matryoshka::train
