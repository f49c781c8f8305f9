// The CUDA backend: the whole active set is one tile, every op a launch or two, and the host never looks at a size
// between the first upload and the last download.
#pragma once

#include <memory>

#include "cuda/element_type.h"
#include "cuda/stream.h"
#include "engine/backend.h"

namespace matryoshka {

/// Uploads the weights. Throws ERR_OUT_OF_MEMORY, ERR_UNSUPPORTED_ARCHITECTURE.
std::unique_ptr<Backend> make_cuda_backend(std::shared_ptr<const Checkpoint> checkpoint, std::unique_ptr<cuda::Stream> stream,
                                           cuda::ElementType type);

}  // namespace matryoshka
