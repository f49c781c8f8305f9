// The GEMM kernels: layout exactly, precision honestly, bits alike in every shape, memory touched well.
#include "cuda/kernels/gemm_fma.cuh"
#include "cuda/kernels/gemm_mma.cuh"
#include "kernels.h"

namespace matryoshka::cuda {
namespace {

template <class E, Activation kActivation, bool kGated = false>
void launch_gemm(const GemmArgs& args, int blocks) {
  if constexpr (sizeof(E) == 4) run<GemmArgs, gemm_fma<kActivation, kGated>>({blocks, FmaTile::kThreads, FmaTile::kShared}, args);
  else run<GemmArgs, gemm_mma<E, kActivation, kGated>>({blocks, BigTile<E>::kThreads, BigTile<E>::kShared}, args);
}

template <class E>
struct Problem {
  int m, n, k;
  Device<E> input, weight, output;
  Device<float> bias;
  Device<int> map, rows;

  Problem(std::mt19937& random, int m, int n, int k, bool exact) : m(m), n(n), k(k), rows{m} {
    const size_t source_rows = m + 5;
    input = exact ? small_integers<E>(random, source_rows * k) : random_elements<E>(random, source_rows * k);
    weight = exact ? small_integers<E>(random, static_cast<size_t>(n) * k) : random_elements<E>(random, static_cast<size_t>(n) * k, 0.1f);
    bias.resize(n);
    for (float& b : bias) b = static_cast<float>(random() % 9) - 4;
    map.resize(m);
    for (int r = 0; r < m; ++r) map[r] = r + (r > m / 3) * 2 + (r > m / 2) * 3;  // ascending, with two gaps
    output = poisoned<E>(static_cast<size_t>(m + 1) * n);
  }
  GemmArgs args(bool mapped) { return {input.data(), mapped ? map.data() : nullptr, weight.data(), bias.data(), output.data(), rows.data(), n, k}; }

  /// Sum in double, and in float with k ascending.
  void sums(int r, int c, bool mapped, double& exact, float& single) const {
    exact = 0;
    single = 0;
    for (int i = 0; i < k; ++i) {
      const float a = to_float(input[static_cast<size_t>(mapped ? map[r] : r) * k + i]), b = to_float(weight[static_cast<size_t>(c) * k + i]);
      exact += static_cast<double>(a) * b;
      single += a * b;
    }
    exact += bias[c];
    single += bias[c];
  }
  void check_nothing_past_the_end() const {
    for (int c = 0; c < n; ++c) CHECK(is_poison(output[static_cast<size_t>(m) * n + c]));
  }
};

template <class E>
void check_layout(std::mt19937& random, int m, int n, int k, int blocks) {
  under_every_schedule([&] {
    for (const bool mapped : {false, true}) {
      Problem<E> p(random, m, n, k, true);
      launch_gemm<E, Activation::none>(p.args(mapped), blocks);
      p.check_nothing_past_the_end();
      for (int r = 0; r < m; ++r)
        for (int c = 0; c < n; ++c) {
          double exact;
          float single;
          p.sums(r, c, mapped, exact, single);
          CHECK_EQ(to_float(p.output[static_cast<size_t>(r) * n + c]), to_float(to_element<E>(static_cast<float>(exact))));
        }
    }
  });
}

TEST("every output is the product of its own row and column, for row counts around every tile's edge") {
  std::mt19937 random(1);
  const std::vector<int> sizes = kSanitized ? std::vector<int>{0, 1, 65} : std::vector<int>{0, 1, 15, 16, 17, 63, 64, 65, 127, 129};
  for (const int m : sizes) {
    check_layout<float>(random, m, 64, 64, 2);
    check_layout<Bf16>(random, m, 64, 64, 2);
    if (!kSanitized) check_layout<F16>(random, m, 64, 64, 2);
  }
}

TEST("big tiles do the same, and blocks take as many tiles as there are") {
  std::mt19937 random(2);
  check_layout<Bf16>(random, 130, 128, kSanitized ? 64 : 192, 1);  // two big tiles on one block
  check_layout<F16>(random, kSanitized ? 65 : 200, 128, 128, 3);   // small ones: too few big ones to fill the grid
  check_layout<float>(random, kSanitized ? 65 : 130, 128, 128, 3);
  if (kSanitized) return;
  check_layout<float>(random, 1001, 64, 64, 3);
  check_layout<Bf16>(random, 1001, 128, 64, 3);
  check_layout<F16>(random, 999, 128, 64, 3);
}

double exact_activation(Activation activation, double x) {
  if (activation == Activation::gelu) return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  if (activation == Activation::gelu_tanh) return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  if (activation == Activation::relu) return std::max(x, 0.0);
  if (activation == Activation::silu) return x / (1 + std::exp(-x));
  return activation == Activation::tanh ? std::tanh(x) : x;
}

template <class E, Activation kActivation>
void check_precision(std::mt19937& random) {
  Problem<E> p(random, 40, 64, 128, false);
  launch_gemm<E, kActivation>(p.args(false), 2);
  HonestBound bound;
  for (int r = 0; r < p.m; ++r)
    for (int c = 0; c < p.n; ++c) {
      double exact;
      float single;
      p.sums(r, c, false, exact, single);
      const float honest = to_float(to_element<E>(static_cast<float>(exact_activation(kActivation, single))));
      bound.add(to_float(p.output[static_cast<size_t>(r) * p.n + c]), honest, exact_activation(kActivation, exact));
    }
  bound.check("gemm");
}

template <class E>
void check_all_activations(std::mt19937& random) {
  check_precision<E, Activation::none>(random);
  check_precision<E, Activation::gelu>(random);
  check_precision<E, Activation::gelu_tanh>(random);
  check_precision<E, Activation::relu>(random);
  check_precision<E, Activation::tanh>(random);
  check_precision<E, Activation::silu>(random);
}

TEST("every activation is as near the exact value as an honest implementation, with instructions at their worst too") {
  for (const bool noise : {false, true}) {
    const Setting<bool> setting(simt::options.noise, noise);
    std::mt19937 random(3);
    check_all_activations<float>(random);
    check_all_activations<Bf16>(random);
    check_all_activations<F16>(random);
  }
}

/// Whole numbers exactly; others as near as an honest implementation that rounds once.
template <class E, Activation kActivation>
void check_gated(std::mt19937& random, int m, int n, int k, int blocks) {
  constexpr bool kWhole = kActivation == Activation::none;
  under_every_schedule([&] {
    Problem<E> p(random, m, n, k, kWhole);
    launch_gemm<E, kActivation, true>(p.args(true), blocks);
    HonestBound bound;
    const int width = n / 2;
    for (int r = 0; r < m; ++r)
      for (int c = 0; c < width; ++c) {
        const int row = c / 16 * 32 + c % 16;  // of its gate; that of its up is 16 further
        double gate, up;
        float single_gate, single_up;
        p.sums(r, row, true, gate, single_gate);
        p.sums(r, row + 16, true, up, single_up);
        const double exact = exact_activation(kActivation, gate) * up;
        const float honest = to_float(to_element<E>(static_cast<float>(exact_activation(kActivation, single_gate)) * single_up));
        const float out = to_float(p.output[static_cast<size_t>(r) * width + c]);
        if (kWhole) CHECK_EQ(out, honest);
        bound.add(out, honest, exact);
      }
    bound.check("gated gemm");
    for (size_t i = static_cast<size_t>(m) * width; i < p.output.size(); ++i) CHECK(is_poison(p.output[i]));
  });
}

template <class E>
void check_gated_layouts(std::mt19937& random) {
  for (const int m : {0, 1, 65, 129})
    if (!kSanitized || m == 65) check_gated<E, Activation::none>(random, m, 128, 64, 3);
  if (!kSanitized) check_gated<E, Activation::none>(random, 130, 256, 64, 1);  // big tiles
}

TEST("a gated output is one column's activation times the column that belongs to it, in small tiles and big ones") {
  std::mt19937 random(7);
  check_gated_layouts<float>(random);
  check_gated_layouts<Bf16>(random);
  check_gated_layouts<F16>(random);
}

template <class E>
void check_gates(std::mt19937& random) {
  check_gated<E, Activation::silu>(random, 40, 128, 128, 2);       // SwiGLU: Mistral, MiniCPM
  check_gated<E, Activation::gelu_tanh>(random, 40, 128, 128, 2);  // GeGLU: Gemma 2
}

TEST("gated activations are as near the exact value as an honest implementation, with instructions at their worst too") {
  if (kSanitized) SKIP("the layouts above touch the same memory");
  for (const bool noise : {false, true}) {
    const Setting<bool> setting(simt::options.noise, noise);
    std::mt19937 random(8);
    check_gates<float>(random);
    check_gates<Bf16>(random);
    check_gates<F16>(random);
  }
}

template <class E>
void check_bits() {
  std::mt19937 random(4);
  Problem<E> p(random, 130, 128, 192, false);
  launch_gemm<E, Activation::gelu>(p.args(false), 1);
  const auto big = p.output;
  launch_gemm<E, Activation::gelu>(p.args(false), 7);
  CHECK(std::memcmp(big.data(), p.output.data(), sizeof(E) * 130 * 128) == 0);
  const Device<int> few{37};
  GemmArgs args = p.args(false);
  args.input = p.input.data() + 50 * p.k;
  args.rows = few.data();
  launch_gemm<E, Activation::gelu>(args, 2);
  CHECK(std::memcmp(big.data() + 50 * 128, p.output.data(), sizeof(E) * few[0] * 128) == 0);
}

TEST("an output has the same bits in big and small tiles, and wherever its row lies") {
  check_bits<float>();
  check_bits<Bf16>();
  check_bits<F16>();
}

template <class E, bool kGated = false>
void check_memory(int m, int blocks) {
  std::mt19937 random(5);
  const Setting<bool> setting(simt::options.trace, true);
  Problem<E> p(random, m, 128, 128, false);
  simt::counters = {};
  launch_gemm<E, Activation::none, kGated>(p.args(false), blocks);
  CHECK_EQ(simt::counters.shared_wavefronts, simt::counters.shared_ideal);
  CHECK(simt::counters.coalesced() >= 0.9);
}

TEST("no shared access conflicts, and at least nine in ten global bytes moved were asked for") {
  needs_emulator();
  check_memory<float>(64, 1);
  check_memory<Bf16>(128, 1);
  check_memory<F16>(64, 3);
  check_memory<float, true>(64, 1);
  check_memory<Bf16, true>(128, 1);
  check_memory<F16, true>(64, 3);
}

TEST("tensor-core instructions are as many as the products need") {
  needs_emulator();
  std::mt19937 random(6);
  Problem<Bf16> p(random, 128, 128, 128, false);
  simt::counters = {};
  launch_gemm<Bf16, Activation::none>(p.args(false), 1);
  CHECK_EQ(simt::counters.mma, uint64_t{128 / 16 * 128 / 8 * 128 / 16});
}

}  // namespace
}  // namespace matryoshka::cuda
