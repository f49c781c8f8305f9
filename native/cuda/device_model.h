// A checkpoint's weights on the device: in the element type that is computed in, padded, in one allocation.
#pragma once

#include <vector>

#include "cuda/device_buffer.h"
#include "cuda/element_type.h"
#include "cuda/padded_shape.h"
#include "model/checkpoint.h"

namespace matryoshka::cuda {

class DeviceModel {
 public:
  /// Uploads everything and waits for it. Throws ERR_OUT_OF_MEMORY, ERR_TENSOR_NOT_FINITE.
  DeviceModel(const Checkpoint& checkpoint, ElementType type, Stream& stream);

  struct Linear {
    void* weight = nullptr;  ///< [n, k] elements
    float* bias = nullptr;   ///< [n]
    int n = 0, k = 0;
  };
  struct Norm {
    void *weight = nullptr, *bias = nullptr;  ///< [shape.hidden] elements, zero past the model's width
  };
  struct Layer {
    Linear linear[kProjections];
    Norm norm[2];
  };
  struct Head {
    Linear dense;            ///< n == 0 where there is none; of a query-conditioned head, M and w
    void* weight = nullptr;  ///< [shape.hidden] elements
    float bias = 0;
    float carry = 0;  ///< HeadSource's
  };

  struct Compensation {
    void* hidden_weight = nullptr;  ///< [units, shape.hidden] elements
    float *hidden_bias = nullptr, *output = nullptr;
    float output_bias[2] = {};
    int units = 0;
  };

  PaddedShape shape;
  void *word = nullptr, *position = nullptr, *type = nullptr;  ///< [rows, shape.hidden] elements
  Norm embedding_norm;
  std::vector<Layer> layers;
  std::vector<Head> heads;
  /// One for each exit, the last one's the identity; or none.
  std::vector<Compensation> compensations;

 private:
  /// Everything there is, in the order of use; twice, to count and to write.
  template <class Uploader>
  void lay_out(const Checkpoint& checkpoint, Uploader& up);

  DeviceBuffer memory_;
};

}  // namespace matryoshka::cuda
