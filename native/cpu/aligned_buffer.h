// Uninitialised memory on cache-line boundaries; on huge pages where it is large and the system has them.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace matryoshka::cpu {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  /// Throws std::bad_alloc.
  explicit AlignedBuffer(size_t bytes) : size_(bytes) {
    constexpr size_t kHugePage = size_t{2} << 20;
    const size_t alignment = bytes >= kHugePage ? kHugePage : 64;
    if (bytes > SIZE_MAX - alignment) throw std::bad_alloc();
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment)));
    if (!data_) throw std::bad_alloc();
#ifdef __linux__
    if (bytes >= kHugePage) madvise(data_.get(), bytes, MADV_HUGEPAGE);
#endif
  }
  std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }
  template <class T>
  T* as(size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(data_.get() + byte_offset);
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

}  // namespace matryoshka::cpu
