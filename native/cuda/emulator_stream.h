// A Stream whose device is the SIMT emulator: memory is the host's, and everything has run when it is queued.
#pragma once

#include <memory>

#include "cuda/stream.h"

namespace matryoshka::cuda {

std::unique_ptr<Stream> make_emulator_stream();

}  // namespace matryoshka::cuda
