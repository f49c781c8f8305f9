// Memory of a stream's device, or staging memory of its host, owned.
#pragma once

#include <utility>

#include "cuda/stream.h"

namespace matryoshka::cuda {

enum class Place : uint8_t { device, staging };

/// Empty until grown. Throws ERR_OUT_OF_MEMORY.
class DeviceBuffer {
 public:
  DeviceBuffer(Stream& stream, Place place) : stream_(&stream), place_(place) {}
  ~DeviceBuffer() { reset(); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  /// At least `bytes`, contents undefined; nothing queued may still use the old memory.
  void reserve(size_t bytes) {
    if (bytes <= bytes_) return;
    reset();
    data_ = static_cast<char*>(place_ == Place::device ? stream_->allocate(bytes) : stream_->allocate_staging(bytes));
    bytes_ = bytes;
  }
  void reset() {
    if (data_) place_ == Place::device ? stream_->release(data_) : stream_->release_staging(data_);
    data_ = nullptr;
    bytes_ = 0;
  }
  char* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  Stream* stream_;
  Place place_;
  char* data_ = nullptr;
  size_t bytes_ = 0;
};

/// Cuts one block of memory into aligned parts. Over a null base it only counts.
class Carver {
 public:
  explicit Carver(char* base) : base_(base) {}
  template <class T = char>
  T* take(size_t count) {
    const size_t at = bytes_;
    bytes_ = (bytes_ + count * sizeof(T) + 255) / 256 * 256;
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  size_t bytes() const { return bytes_; }

 private:
  char* base_;
  size_t bytes_ = 0;
};

}  // namespace matryoshka::cuda
