// Loads and stores, global and shared, that the emulator can count; on the device they are plain dereferences.
#pragma once

#include "cuda/instructions/thread.cuh"

#if !defined(__CUDACC__)
#include "simt/memory.h"
#endif

namespace matryoshka::cuda {

/// 16 bytes, the widest access: 4 f32 or 8 elements of 16 bits. Both it and its address are 16-byte aligned.
struct alignas(16) Chunk {
  uint32_t word[4];
};
/// 8 bytes, aligned: two floats.
struct alignas(8) FloatPair {
  float low, high;
};

#if defined(__CUDACC__)

template <class T>
DEVICE T load(const T* from) {
  return *from;
}
template <class T>
DEVICE void store(T* to, T value) {
  *to = value;
}
template <>
DEVICE Chunk load<Chunk>(const Chunk* from) {
  const uint4 v = *reinterpret_cast<const uint4*>(from);
  return {{v.x, v.y, v.z, v.w}};
}
template <>
DEVICE void store<Chunk>(Chunk* to, Chunk value) {
  *reinterpret_cast<uint4*>(to) = make_uint4(value.word[0], value.word[1], value.word[2], value.word[3]);
}
template <class T>
DEVICE T load_shared(const T* from) {
  return load(from);
}
template <class T>
DEVICE void store_shared(T* to, T value) {
  store(to, value);
}

#else

template <class T>
T load(const T* from, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::trace(simt::Space::global, from, sizeof(T), {file, line});
  return *from;
}
template <class T>
void store(T* to, T value, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::trace(simt::Space::global, to, sizeof(T), {file, line});
  *to = value;
}
template <class T>
T load_shared(const T* from, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::trace(simt::Space::shared, from, sizeof(T), {file, line});
  return *from;
}
template <class T>
void store_shared(T* to, T value, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::trace(simt::Space::shared, to, sizeof(T), {file, line});
  *to = value;
}

#endif

}  // namespace matryoshka::cuda
