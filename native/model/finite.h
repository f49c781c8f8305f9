// Where a tensor stops being numbers: the scan that runs once over every weight a model brings.
#pragma once

#include <cstddef>
#include <optional>

#include "model/tensor.h"

namespace matryoshka {

/// Index of the first element that is a NaN or an infinity, or nothing. Runs at memory speed.
std::optional<size_t> first_not_finite(const Tensor& tensor);

}  // namespace matryoshka
