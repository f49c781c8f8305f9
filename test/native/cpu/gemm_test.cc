// Matrix products of every variant of the kernels that this machine runs, against sums in double.
#include <algorithm>

#include "check.h"
#include "kernel_matrix.h"

using namespace matryoshka;
using namespace matryoshka::check;
using cpu::Epilogue;
using cpu::Format;
using cpu::Panels;

namespace {

struct Size {
  int rows, n, k;
};
// One of everything; odd; a whole panel of every variant; more than one; k of the MLP's down projection cut short; more rows than are split at a time.
const std::vector<Size> kSizes = {{1, 1, 1}, {2, 3, 5}, {7, 65, 33}, {12, 64, 48}, {23, 130, 17}, {5, 16, 257}, {165, 35, 100}};

const std::vector<std::pair<Format, const char*>> kFormats = {
    {Format::f32, "f32"}, {Format::f16, "f16"}, {Format::bf16, "bf16"}, {Format::bf16_dot, "bf16_dot"}, {Format::s8_dot, "s8_dot"}, {Format::s16_dot, "s16_dot"}};

bool runs(const Kernels& kernels, Format format) {
  if (cpu::integers(format)) return format == kernels.int8;
  return format != Format::bf16_dot || kernels.bf16_dot;
}

/// Weights as a checkpoint stores them: multiples of 2^-9 below 1, exact in every format but s8 and bf16.
std::vector<float> stored_weights(const Size& size) {
  std::vector<float> w = normal(static_cast<size_t>(size.n) * size.k, 0.2, 2);
  for (float& x : w) x = std::round(x * 512) / 512;
  return w;
}

class PackedWeights {
 public:
  PackedWeights(const Kernels& kernels, Format format, const Size& size, const std::vector<float>& weights, const std::vector<float>& bias) {
    const int width = kernels.width, count = (size.n + width - 1) / width;
    panels.format = format;
    panels.n = size.n;
    panels.k = size.k;
    panels.panel_bytes = cpu::panel_size(format, size.k, width);
    data_ = cpu::AlignedBuffer(panels.panel_bytes * count);
    bias_.assign(count * width, 0);
    std::copy(bias.begin(), bias.end(), bias_.begin());
    scale_.resize(count * width);
    sums_.resize(count * width);
    std::vector<float> scratch(static_cast<size_t>(width) * (size.k + 16));
    std::vector<cpu::StoredRow> rows;
    for (int r = 0; r < size.n; ++r) rows.push_back({reinterpret_cast<const std::byte*>(&weights[static_cast<size_t>(r) * size.k]), StoredType::f32});
    for (int p = 0; p < count; ++p) {
      kernels.pack({&rows[p * width], std::min(width, size.n - p * width), size.k, format, data_.data() + panels.panel_bytes * p,
                    &scale_[p * width], &sums_[p * width], scratch.data()});
    }
    panels.data = data_.data();
    panels.bias = bias_.data();
    panels.scale = scale_.data();
    panels.sums = sums_.data();
  }
  Panels panels;

 private:
  cpu::AlignedBuffer data_;
  std::vector<float> bias_, scale_;
  std::vector<int32_t> sums_;
};

/// What a plain loop in that precision multiplies: the operand, rounded.
std::vector<float> honest_weights(Format format, const Size& size, std::vector<float> w) {
  if (format == Format::bf16 || format == Format::bf16_dot)
    for (float& x : w) x = rounded_to_bf16(x);
  if (cpu::integers(format))
    for (int r = 0; r < size.n; ++r) {
      float* row = &w[static_cast<size_t>(r) * size.k];
      float most = 0;
      for (int i = 0; i < size.k; ++i) most = std::max(most, std::fabs(row[i]));
      for (int i = 0; i < size.k && most > 0; ++i) row[i] = std::nearbyint(row[i] / most * 127) * most / 127;
    }
  return w;
}

double activated(Epilogue epilogue, double x) {
  switch (epilogue) {
    case Epilogue::gelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Epilogue::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Epilogue::relu:
      return std::max(x, 0.0);
    case Epilogue::none:
      break;
  }
  return x;
}

struct Case {
  const Kernels& kernels;
  Format format;
  Size size;
  std::vector<float> x = normal(static_cast<size_t>(size.rows) * size.k, 1, 1), w = stored_weights(size), bias = normal(size.n, 0.5, 3);
  PackedWeights packed{kernels, format, size, w, bias};
  Matrix input{size.rows, size.k, Element::f32, x};
  Matrix converted{size.rows, size.k, input_of(format), 0};
  cpu::AlignedBuffer scratch{kernels.gemm_scratch(size.k)};

  Case(const Kernels& kernels_, Format format_, const Size& size_) : kernels(kernels_), format(format_), size(size_) {
    if (input_of(format) != Element::f32) kernels.convert(size.rows, size.k, input.view(), converted.view());
  }
  const Matrix& operand() const { return input_of(format) == Element::f32 ? input : converted; }

  Matrix run(int first, int rows, Epilogue epilogue, Element output) {
    Matrix out(rows, size.n, output);
    cpu::Gemm call;
    call.rows = rows;
    call.input = operand().from(first);
    call.weight = &packed.panels;
    call.output = out.view();
    call.epilogue = epilogue;
    call.scratch = scratch.as<float>();
    kernels.gemm(call);
    return out;
  }
};

void compare(const cpu::Variant& variant, const std::pair<Format, const char*>& format, const Size& size, Epilogue epilogue, Element output) {
  if (!runs(*variant.kernels, format.first)) return;
  Case c(*variant.kernels, format.first, size);
  const std::vector<float> w = honest_weights(format.first, size, c.w);
  const Matrix out = c.run(0, size.rows, epilogue, output);
  Errors errors;
  for (int r = 0; r < size.rows; ++r)
    for (int o = 0; o < size.n; ++o) {
      double exact = c.bias[o];
      float honest = 0;
      for (int i = 0; i < size.k; ++i) {
        exact += static_cast<double>(c.x[static_cast<size_t>(r) * size.k + i]) * c.w[static_cast<size_t>(o) * size.k + i];
        honest += static_cast<float>(c.operand().at(r, i)) * w[static_cast<size_t>(o) * size.k + i];
      }
      const float y = static_cast<float>(activated(epilogue, honest + c.bias[o]));
      errors.add(activated(epilogue, exact), out.at(r, o), output == Element::bf16 ? rounded_to_bf16(y) : y);
    }
  const double unit = output == Element::bf16 ? 0x1p-8 : cpu::integers(format.first) ? 1e-3 : format.first == Format::bf16_dot ? 1e-4 : 0x1p-22;
  if (!errors.good(unit))
    fail(__FILE__, __LINE__, variant.name + " " + format.second + " " + std::to_string(size.rows) + "x" + std::to_string(size.n) + "x" + std::to_string(size.k) +
                                 " epilogue " + std::to_string(static_cast<int>(epilogue)) + ": " + errors.text());
}

}  // namespace

TEST("a product is as close to the exact one as plain loops in the same precision, in every size") {
  for (const cpu::Variant& variant : cpu::runnable_variants())
    for (const auto& format : kFormats)
      for (const Size& size : kSizes) compare(variant, format, size, Epilogue::none, Element::f32);
}

TEST("so is an activated one, stored as f32 or bf16") {
  for (const cpu::Variant& variant : cpu::runnable_variants())
    for (const auto& format : kFormats)
      for (const Epilogue epilogue : {Epilogue::gelu, Epilogue::gelu_tanh, Epilogue::relu})
        for (const Element output : {Element::f32, Element::bf16}) compare(variant, format, {9, 67, 40}, epilogue, output);
}

TEST("a row's product has the same bits alone and among any others") {
  for (const cpu::Variant& variant : cpu::runnable_variants())
    for (const auto& format : kFormats) {
      if (!runs(*variant.kernels, format.first)) continue;
      Case c(*variant.kernels, format.first, {40, 97, 70});
      const Matrix all = c.run(0, 40, Epilogue::gelu, Element::f32);
      for (int rows = 1; rows <= 40; ++rows) {
        const int first = 40 - rows;
        const Matrix some = c.run(first, rows, Epilogue::gelu, Element::f32);
        for (int r = 0; r < rows; ++r)
          if (!some.same_row(r, all, first + r)) fail(__FILE__, __LINE__, variant.name + " " + format.second + ": row " + std::to_string(first + r) + " of " + std::to_string(rows));
      }
    }
}

TEST("gelu is exact to f32 where weights are, from -20 to 20") {
  for (const cpu::Variant& variant : cpu::runnable_variants()) {
    constexpr int kPoints = 4001;
    const Size size{kPoints, 1, 1};
    const PackedWeights one(*variant.kernels, Format::f32, size, {1.f}, {0.f});
    std::vector<float> x(kPoints);
    for (int i = 0; i < kPoints; ++i) x[i] = static_cast<float>(i - kPoints / 2) / 100;
    const Matrix input(kPoints, 1, Element::f32, x), out(kPoints, 1, Element::f32);
    cpu::Gemm call;
    call.rows = kPoints;
    call.input = input.view();
    call.weight = &one.panels;
    call.output = out.view();
    call.epilogue = Epilogue::gelu;
    variant.kernels->gemm(call);
    for (int i = 0; i < kPoints; ++i) {
      const double error = std::fabs(out.at(i, 0) - activated(Epilogue::gelu, x[i]));
      if (!(error <= 1.8e-7 * std::fabs(x[i]))) fail(__FILE__, __LINE__, variant.name + ": gelu(" + std::to_string(x[i]) + ") is off by " + std::to_string(error));
    }
  }
}
