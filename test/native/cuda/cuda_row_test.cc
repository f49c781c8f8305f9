// The kernels that give each row a warp: embedding, residual with norm, gathering, and the score head.
#include "cuda/kernels/embed.cuh"
#include "cuda/kernels/gather.cuh"
#include "cuda/kernels/head.cuh"
#include "cuda/kernels/residual.cuh"
#include "kernels.h"

namespace matryoshka::cuda {
namespace {

constexpr Grid kRows{2, kRowThreads, 0};
constexpr float kEps = 1e-5f;

/// Zero past `width`, as the device's weights and activations are.
template <class E>
Device<E> padded(std::mt19937& random, int rows, int width, int stride, float deviation = 1) {
  Device<E> out = random_elements<E>(random, static_cast<size_t>(rows) * stride, deviation);
  for (int r = 0; r < rows; ++r) std::fill(&out[static_cast<size_t>(r) * stride + width], &out[static_cast<size_t>(r) * stride] + stride, to_element<E>(0));
  return out;
}

/// Adds `actual` to the bound against norm(sum), computed in double and, honestly, in float.
template <class E, Norm kNorm = Norm::layer>
void add_norm(HonestBound& bound, const std::vector<double>& sum, const E* weight, const E* bias, const E* actual, int width, int stride) {
  double mean = 0, square = 0;
  float single_mean = 0, single_square = 0;
  for (int i = 0; kNorm == Norm::layer && i < width; ++i) {
    mean += sum[i] / width;
    single_mean += static_cast<float>(sum[i]) / static_cast<float>(width);
  }
  for (int i = 0; i < width; ++i) {
    square += (sum[i] - mean) * (sum[i] - mean) / width;
    const float d = static_cast<float>(sum[i]) - single_mean;
    single_square += d * d / static_cast<float>(width);
  }
  for (int i = 0; i < stride; ++i) {
    const float w = to_float(weight[i]) + (kNorm == Norm::rms_plus_one), b = kNorm == Norm::layer ? to_float(bias[i]) : 0;
    const double exact = i < width ? (sum[i] - mean) / std::sqrt(square + kEps) * w + b : 0;
    const float honest = i < width ? (static_cast<float>(sum[i]) - single_mean) / std::sqrt(single_square + kEps) * w + b : 0;
    bound.add(to_float(actual[i]), to_float(to_element<E>(honest)), exact);
    if (i >= width) CHECK_EQ(to_float(actual[i]), 0.f);
  }
}

template <class E, int kWidth, Norm kNorm = Norm::layer>
void check_residual(int rows, int width, int stride, bool mapped) {
  under_every_schedule([&] {
    std::mt19937 random(1);
    const auto hidden = padded<E>(random, rows + 4, width, stride), branch = padded<E>(random, rows, width, stride);
    const auto weight = padded<E>(random, 1, width, stride), bias = padded<E>(random, 1, width, stride);
    auto output = poisoned<E>(static_cast<size_t>(rows + 1) * stride);
    const Device<int> count{rows};
    Device<int> map(rows);
    for (int r = 0; r < rows; ++r) map[r] = r + 4 * (r > rows / 2);
    run<ResidualArgs, residual<E, kWidth, kNorm>>(
        kRows, {count.data(), mapped ? map.data() : nullptr, hidden.data(), branch.data(), weight.data(), kNorm == Norm::layer ? bias.data() : nullptr, output.data(), width, stride, kEps});
    HonestBound bound;
    for (int r = 0; r < rows; ++r) {
      std::vector<double> sum(stride);
      for (int i = 0; i < stride; ++i)
        sum[i] = static_cast<double>(to_float(hidden[static_cast<size_t>(mapped ? map[r] : r) * stride + i])) + to_float(branch[static_cast<size_t>(r) * stride + i]);
      add_norm<E, kNorm>(bound, sum, weight.data(), bias.data(), &output[static_cast<size_t>(r) * stride], width, stride);
    }
    bound.check("residual");
    for (int i = 0; i < stride; ++i) CHECK(is_poison(output[static_cast<size_t>(rows) * stride + i]));
  });
}

TEST("a residual row is the norm of its own sum, read through the row map where there is one") {
  for (const bool mapped : {false, true}) {
    check_residual<float, 1024>(19, 60, 64, mapped);
    check_residual<Bf16, 1024>(19, 384, 384, mapped);
    check_residual<F16, 1024>(17, 1000, 1024, mapped);
    check_residual<Bf16, 2048>(3, 1100, 1152, mapped);
    check_residual<float, 2048>(3, 2048, 2048, mapped);
    check_residual<F16, 2048>(1, 2048, 2048, mapped);
    if (!kSanitized) check_residual<Bf16, 1024>(1001, 60, 64, mapped);
  }
  check_residual<float, 1024>(0, 60, 64, true);
}

TEST("so it is with the norms of decoders, which have no mean and no bias") {
  check_residual<float, 1024, Norm::rms>(9, 60, 64, true);
  check_residual<Bf16, 1024, Norm::rms>(9, 384, 384, false);
  check_residual<F16, 2048, Norm::rms_plus_one>(3, 1100, 1152, true);
  check_residual<Bf16, 1024, Norm::rms_plus_one>(9, 384, 384, false);
}

TEST("statistics do not cancel where a row's mean is large") {
  const int rows = 2, stride = 64;
  const Device<int> count{rows};
  std::mt19937 random(2);
  auto hidden = random_elements<float>(random, rows * stride, 1e-2f);
  for (float& x : hidden) x += 1000;
  const Device<float> zero(rows * stride, 0.f), one(stride, 1.f);
  auto output = poisoned<float>((rows + 1) * stride);
  run<ResidualArgs, residual<float, 1024>>(kRows, {count.data(), nullptr, hidden.data(), zero.data(), one.data(), zero.data(), output.data(), stride, stride, kEps});
  HonestBound bound;
  for (int r = 0; r < rows; ++r)
    add_norm(bound, std::vector<double>(&hidden[r * stride], &hidden[r * stride] + stride), one.data(), zero.data(), &output[r * stride], stride, stride);
  bound.check("residual");
}

template <class E, int kRowWidth>
void check_embed(int count) {
  under_every_schedule([&] {
    constexpr int kWidth = 90, kStride = 128;
    const int kTokens = count;
    std::mt19937 random(3);
    const auto word = padded<E>(random, 50, kWidth, kStride), position = padded<E>(random, 30, kWidth, kStride), type = padded<E>(random, 2, kWidth, kStride);
    const auto weight = padded<E>(random, 1, kWidth, kStride), bias = padded<E>(random, 1, kWidth, kStride);
    auto hidden = poisoned<E>((kTokens + 1) * kStride);
    Device<int> tokens(kTokens), positions(kTokens), types(kTokens), rows{kTokens};
    for (int t = 0; t < kTokens; ++t) {
      tokens[t] = static_cast<int>(random() % 50);
      positions[t] = t % 13 + 2;
      types[t] = t > 7;
    }
    run<EmbedArgs, embed<E, kRowWidth>>(kRows, {rows.data(), tokens.data(), positions.data(), types.data(), word.data(), position.data(), type.data(), weight.data(),
                                           bias.data(), hidden.data(), kWidth, kStride, kEps});
    HonestBound bound;
    for (int t = 0; t < kTokens; ++t) {
      std::vector<double> sum(kStride);
      for (int i = 0; i < kStride; ++i)
        sum[i] = static_cast<double>(to_float(word[tokens[t] * kStride + i])) + to_float(position[positions[t] * kStride + i]) + to_float(type[types[t] * kStride + i]);
      add_norm(bound, sum, weight.data(), bias.data(), &hidden[t * kStride], kWidth, kStride);
    }
    bound.check("embed");
    CHECK(is_poison(hidden[kTokens * kStride]));
  });
}

TEST("a token's row is the norm of its word, position and type") {
  for (const int tokens : {0, 1, 21}) {
    if (kSanitized && tokens < 21) continue;
    check_embed<float, 1024>(tokens);
    check_embed<Bf16, 1024>(tokens);
    check_embed<F16, 1024>(tokens);
  }
  check_embed<Bf16, 2048>(3);
  if (kSanitized) return;
  check_embed<float, 2048>(3);
  check_embed<F16, 2048>(3);
}

/// `count` sequences of a batch of which every other one has stopped; a compensation of `units` hidden units, or none; a share
/// of the logit of the exit before.
template <class E, int kRowWidth>
void check_head(int count, int stride, int units, float carry) {
  under_every_schedule([&] {
    constexpr int kExits = 3, kExit = 1;
    std::mt19937 random(4);
    Device<int> cu_seqlens{0}, sequences;
    for (int s = 0; s < count; ++s) {
      cu_seqlens.push_back(cu_seqlens.back() + 1 + s % 4);
      sequences.push_back(2 * s + 1);
    }
    Device<int> counts{count, cu_seqlens.back(), 0, 0};
    const ActiveSetView active{counts.data(), sequences.data(), cu_seqlens.data(), nullptr, nullptr, nullptr};
    const auto hidden = random_elements<E>(random, static_cast<size_t>(cu_seqlens.back() + 1) * stride), weight = random_elements<E>(random, stride, 0.1f);
    const auto hidden_weight = random_elements<E>(random, static_cast<size_t>(std::max(units, 0) + 1) * stride, 0.1f);
    const auto hidden_bias = random_elements<float>(random, std::max(units, 0) + 1), output = random_elements<float>(random, 2 * (std::max(units, 0) + 1));

    auto scoring = poisoned<E>(static_cast<size_t>(count + 1) * stride);
    run<GatherArgs, gather>(kRows, {active, hidden.data(), scoring.data(), stride * static_cast<int>(sizeof(E)) / 16});
    for (int s = 0; s < count; ++s) CHECK(std::memcmp(&scoring[s * stride], &hidden[static_cast<size_t>(cu_seqlens[s]) * stride], stride * sizeof(E)) == 0);
    CHECK(is_poison(scoring[static_cast<size_t>(count) * stride]));

    for (const bool token_rows : {true, false}) {
      auto logits = poisoned<float>((2 * count + 1) * kExits), estimates = logits, scales = logits;
      const auto before = [](int sequence) { return 0.5f * static_cast<float>(sequence) - 3; };
      if (carry > 0)
        for (int s = 0; s < count; ++s) logits[static_cast<size_t>(sequences[s]) * kExits + kExit - 1] = before(sequences[s]);
      const bool compensated = units >= 0;
      const CompensationArgs compensation{hidden_weight.data(), hidden_bias.data(), output.data(), {0.5f, -0.5f}, units};
      run<HeadArgs, head<E, kRowWidth>>(kRows, {active, token_rows ? hidden.data() : scoring.data(), token_rows, nullptr, weight.data(), 0.25f, carry, logits.data(), stride,
                                                kExits, kExit, compensated ? estimates.data() : nullptr, compensated ? scales.data() : nullptr, compensation});
      for (int i = 0; i < (2 * count + 1) * kExits; ++i) {
        const int s = i / kExits / 2;
        if (i % kExits != kExit || i / kExits % 2 == 0 || s >= count) {
          const bool known = carry > 0 && i % kExits == kExit - 1 && i / kExits % 2 == 1 && s < count;
          CHECK(known ? logits[i] == before(i / kExits) : is_poison(logits[i]));
          CHECK(is_poison(estimates[i]) && is_poison(scales[i]));
          continue;
        }
        const auto dot = [&](const E* with) {
          double sum = 0;
          for (int d = 0; d < stride; ++d) sum += static_cast<double>(to_float(hidden[static_cast<size_t>(cu_seqlens[s]) * stride + d])) * to_float(with[d]);
          return sum;
        };
        const double logit = (1 - carry) * (0.25 + dot(weight.data())) + (carry > 0 ? carry * before(sequences[s]) : 0);
        CHECK(std::fabs(logits[i] - logit) < 1e-5);
        if (!compensated) continue;
        double score = 0.5 + output[units] * logit, log_scale = -0.5 + output[2 * units + 1] * logit;
        for (int m = 0; m < units; ++m) {
          const double z = std::tanh(hidden_bias[m] + dot(&hidden_weight[static_cast<size_t>(m) * stride]));
          score += output[m] * z;
          log_scale += output[units + 1 + m] * z;
        }
        CHECK(std::fabs(estimates[i] - score) < 2e-5);
        CHECK(std::fabs(std::log(scales[i]) - std::min(std::max(log_scale, -6.0), 6.0)) < 2e-5);
      }
    }
  });
}

TEST("a sequence's score is read off its own row into its own place, with its share of the exit before, and so is what its compensation says") {
  for (const int units : {-1, 0, 5}) {
    if (kSanitized && units < 5) continue;
    check_head<float, 1024>(19, 64, units, 0);
    check_head<Bf16, 1024>(19, 128, units, 0.3f);
    check_head<F16, 1024>(19, 128, units, 0);
  }
  check_head<float, 1024>(0, 64, 1, 0.3f);
  check_head<Bf16, 2048>(3, 1088, 2, 0);
  if (kSanitized) return;
  check_head<float, 2048>(3, 1088, 2, 0.3f);
  check_head<F16, 2048>(3, 1088, 2, 0);
  check_head<Bf16, 1024>(1001, 64, -1, 0);
}

TEST("rows move through memory in whole sectors") {
  needs_emulator();
  const Setting<bool> setting(simt::options.trace, true);
  const auto coalesced = [](auto body) {
    simt::counters = {};
    body();
    return simt::counters.coalesced();
  };
  CHECK(coalesced([] { check_residual<Bf16, 1024>(16, 384, 384, false); }) >= 0.9);
  CHECK(coalesced([] { check_residual<float, 1024>(16, 384, 384, true); }) >= 0.9);
  CHECK(coalesced([] { check_embed<Bf16, 1024>(21); }) >= 0.9);
  CHECK(coalesced([] { check_head<Bf16, 1024>(19, 384, -1, 0); }) >= 0.9);
}

}  // namespace
}  // namespace matryoshka::cuda
