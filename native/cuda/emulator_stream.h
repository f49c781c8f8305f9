// A Stream whose device is the SIMT emulator: memory is the host's, and what is queued runs when it is waited for, in any
// order that the lines of stream.h leave open.
#pragma once

#include <memory>

#include "cuda/stream.h"

namespace matryoshka::cuda {

/// `seed` chooses the order.
std::unique_ptr<Stream> make_emulator_stream(uint32_t seed = 0);

}  // namespace matryoshka::cuda
