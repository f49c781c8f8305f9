// The instructions, against the layouts of the PTX manual: on the emulator, and on a GPU, which so certifies the emulator.
// And the emulator's own rules.
#include "cuda/instructions/cp_async.cuh"
#include "cuda/instructions/mma.cuh"
#include "kernels.h"

namespace matryoshka::cuda {
namespace {

struct Out {
  float* values;
};

template <void (*kKernel)(Out)>
void launch(float* values, int threads = 32) {
  run<Out, kKernel>({1, threads, 4096}, {values});
}

// A[r][k] = r + 16 k, B[k][n] = (k == n) + (k == n + 8): every output names the two entries it came from.
KERNEL(32, 1) fragments(Out out) {
  const int g = thread_index() / 4, t = thread_index() % 4 * 2;
  const auto a = [](int r, int k) { return static_cast<float>(r + 16 * k); };
  const auto b = [](int k, int n) { return k == n ? 1.f : k == n + 8 ? 2.f : 0.f; };
  const uint32_t fa[4] = {pack<Bf16>(a(g, t), a(g, t + 1)), pack<Bf16>(a(g + 8, t), a(g + 8, t + 1)), pack<Bf16>(a(g, t + 8), a(g, t + 9)),
                          pack<Bf16>(a(g + 8, t + 8), a(g + 8, t + 9))};
  float d[4] = {};
  mma<Bf16>(d, fa, pack<Bf16>(b(t, g), b(t + 1, g)), pack<Bf16>(b(t + 8, g), b(t + 9, g)));
  out.values[g * 8 + t] = d[0];
  out.values[g * 8 + t + 1] = d[1];
  out.values[(g + 8) * 8 + t] = d[2];
  out.values[(g + 8) * 8 + t + 1] = d[3];
}

TEST("mma multiplies fragments in the manual's layout") {
  Device<float> values(16 * 8);
  launch<fragments>(values.data());
  for (int r = 0; r < 16; ++r)
    for (int n = 0; n < 8; ++n) CHECK_EQ(values[r * 8 + n], (r + 16.f * n) + 2 * (r + 16.f * (n + 8)));
}

template <bool kTransposed>
KERNEL(32, 1) matrices(Out out) {
  auto* const shared = reinterpret_cast<Chunk*>(shared_memory());
  for (int i = 0; i < 4; ++i) shared[thread_index()].word[i] = (thread_index() * 8 + 2 * i) | (thread_index() * 8 + 2 * i + 1) << 16;
  sync_block();
  uint32_t r[4];
  if (kTransposed) ldmatrix_x4_transposed(r, &shared[thread_index()]);
  else ldmatrix_x4(r, &shared[thread_index()]);
  for (int m = 0; m < 4; ++m) out.values[m * 32 + thread_index()] = static_cast<float>(r[m] & 0xffff) * 1024 + static_cast<float>(r[m] >> 16);
}

TEST("ldmatrix hands lane L row L/4 and columns 2(L%4), +1, or the transpose of that") {
  Device<float> values(128);
  for (const bool transposed : {false, true}) {
    if (transposed) launch<matrices<true>>(values.data());
    else launch<matrices<false>>(values.data());
    for (int m = 0; m < 4; ++m)
      for (int l = 0; l < 32; ++l) {
        const int r = l / 4, c = l % 4 * 2;
        const int low = transposed ? (m * 8 + c) * 8 + r : (m * 8 + r) * 8 + c, high = transposed ? low + 8 : low + 1;
        CHECK_EQ(values[m * 32 + l], low * 1024.f + static_cast<float>(high));
      }
  }
}

KERNEL(32, 1) copies(Out out) {
  auto* const shared = reinterpret_cast<float*>(shared_memory());
  cp_async16(shared + thread_index() * 4, out.values + thread_index() * 4, thread_index() % 2 == 0);
  cp_async_commit();
  cp_async_commit();
  cp_async_wait<1>();
  sync_block();
  const float seen = shared[(thread_index() ^ 2) * 4];
  sync_block();
  out.values[thread_index() * 4] = seen;
}

TEST("a copy has landed after its wait, and brings zeroes where it is not valid") {
  under_every_schedule([] {
    Device<float> values(128);
    for (int i = 0; i < 128; ++i) values[i] = static_cast<float>(i + 1);
    launch<copies>(values.data());
    for (int t = 0; t < 32; ++t) CHECK_EQ(values[t * 4], t % 2 ? 0.f : static_cast<float>((t ^ 2) * 4 + 1));
  });
}

KERNEL(32, 1) shuffles(Out out) {
  out.values[thread_index()] = shuffle_xor(static_cast<float>(thread_index()), 5);
  out.values[32 + thread_index()] = static_cast<float>(shuffle_up(thread_index(), 3));
}

TEST("shuffles read the other lane's value") {
  Device<float> values(64);
  launch<shuffles>(values.data());
  for (int l = 0; l < 32; ++l) {
    CHECK_EQ(values[l], static_cast<float>(l ^ 5));
    CHECK_EQ(values[32 + l], static_cast<float>(l >= 3 ? l - 3 : l));
  }
}

#if !defined(__CUDACC__)

template <void (*kKernel)(Out)>
std::string fault_of(int threads = 32) {
  try {
    launch<kKernel>(nullptr, threads);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

void half_a_barrier(Out) {
  if (thread_index() < 40) sync_block();
}
void half_a_warp(Out) {
  if (thread_index() >= 16) sync_warp();
}
void two_collectives(Out) {
  if (thread_index() < 16) shuffle_xor(1, 1);
  else sync_warp();
}
void foreign_copy(Out) { cp_async16(shared_memory() + 4096, shared_memory(), true); }

TEST("what hardware leaves undefined ends the launch with its reason, and the next launch runs") {
  CHECK(fault_of<half_a_barrier>(64).find("deadlock") != std::string::npos);
  CHECK(fault_of<half_a_warp>().find("ended") != std::string::npos);
  CHECK(fault_of<two_collectives>().find("different collectives") != std::string::npos);
  CHECK(fault_of<foreign_copy>().find("outside shared memory") != std::string::npos);
  Device<float> values(64);
  launch<shuffles>(values.data());
}

template <int kStride>
void strided(Out) {
  load_shared(reinterpret_cast<float*>(shared_memory()) + thread_index() * kStride);
}
template <int kStride>
void strided_global(Out out) {
  load(out.values + thread_index() * kStride);
}

TEST("a bank conflict costs a wavefront for each further word, a strided load a sector for each lane") {
  const Setting<bool> setting(simt::options.trace, true);
  simt::counters = {};
  launch<strided<1>>(nullptr);
  CHECK_EQ(simt::counters.shared_wavefronts, uint64_t{1});
  simt::counters = {};
  launch<strided<8>>(nullptr);
  CHECK_EQ(simt::counters.shared_wavefronts, uint64_t{8});
  Device<float> values(32 * 8);
  simt::counters = {};
  launch<strided_global<1>>(values.data());
  CHECK_EQ(simt::counters.coalesced(), 1.0);
  simt::counters = {};
  launch<strided_global<8>>(values.data());
  CHECK_EQ(simt::counters.coalesced(), 0.125);
}

#endif

TEST("half-precision numbers survive the way there and back, and round to nearest even") {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const auto half = static_cast<uint16_t>(h);
    if ((h & 0x7c00) != 0x7c00) CHECK_EQ(int{simt::float_to_f16(simt::f16_to_float(half))}, int{half});
    if ((h & 0x7f80) != 0x7f80) CHECK_EQ(int{simt::float_to_bf16(simt::bf16_to_float(half))}, int{half});
  }
  CHECK_EQ(int{simt::float_to_f16(1 + 0x1p-11f)}, 0x3c00);      // a tie, to even
  CHECK_EQ(int{simt::float_to_f16(1 + 3 * 0x1p-11f)}, 0x3c02);  // a tie, to even
  CHECK_EQ(int{simt::float_to_f16(0x1p-25f)}, 0);
  CHECK_EQ(int{simt::float_to_f16(0x1.8p-25f)}, 1);
  CHECK_EQ(int{simt::float_to_f16(65520.f)}, 0x7c00);
}

}  // namespace
}  // namespace matryoshka::cuda
