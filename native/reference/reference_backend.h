// The oracle: every op as plain loops in double over one tile, written to be read, not to be fast.
#pragma once

#include <memory>

#include "engine/backend.h"

namespace matryoshka {

std::unique_ptr<Backend> make_reference_backend(std::shared_ptr<const Checkpoint> checkpoint);

}  // namespace matryoshka
