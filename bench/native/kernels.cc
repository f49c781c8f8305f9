// Functions that make kernel calls: each returns a JavaScript function that runs the kernel once, on one thread.
//
//   peak(dtype, rounds) -> operations
//   gemm(dtype, rows, n, k, activated) -> () => void
//   attention(dtype, lengths, heads, headDim) -> () => void       every length once
//   residualNorm(rows, n) -> () => void
//   convert(dtype, rows, n) -> () => void                         f32 -> what that dtype multiplies
#include <napi.h>

#include <memory>

#include "operands.h"
#include "peak.h"

using namespace matryoshka;
using namespace matryoshka::bench;
using cpu::Element;
using cpu::Format;

namespace {

const cpu::Kernels& kernels() { return *cpu::choose_variant("").kernels; }

struct Types {
  Format weight;
  Element input, wide, attention;
};

/// As the engine stores them, for F16 checkpoints.
Types types_of(const Napi::Value& dtype) {
  const std::string name = dtype.As<Napi::String>();
  const bool dot = kernels().bf16_dot;
  if (name == "int8") return {Format::s8_dot, Element::u8, Element::f32, dot ? Element::bf16 : Element::f32};
  if (name == "bf16" && dot) return {Format::bf16_dot, Element::bf16, Element::bf16, Element::bf16};
  return {name == "bf16" ? Format::bf16 : Format::f16, Element::f32, Element::f32, Element::f32};
}

int integer(const Napi::CallbackInfo& info, size_t i) { return info[i].As<Napi::Number>().Int32Value(); }

template <class F>
Napi::Value call(Napi::Env env, F body) {
  return Napi::Function::New(env, [body = std::move(body)](const Napi::CallbackInfo&) { body(); });
}

Napi::Value peak_of(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), peak(types_of(info[0]).weight, info[1].As<Napi::Number>().Int64Value()));
}

Napi::Value gemm(const Napi::CallbackInfo& info) {
  const Types types = types_of(info[0]);
  const int rows = integer(info, 1), n = integer(info, 2), k = integer(info, 3);
  const bool activated = info[4].As<Napi::Boolean>();
  const auto input = std::make_shared<Matrix>(kernels(), rows, k, types.input);
  const auto output = std::make_shared<Matrix>(kernels(), rows, n, activated ? types.wide : Element::f32);
  const auto weights = std::make_shared<Weights>(kernels(), types.weight, n, k);
  const auto scratch = std::make_shared<cpu::AlignedBuffer>(sizeof(float) * k * kernels().width);
  return call(info.Env(), [=] {
    kernels().gemm({rows, input->rows, &weights->panels, output->rows, activated ? cpu::Epilogue::gelu : cpu::Epilogue::none,
                    scratch->as<float>(0)});
  });
}

Napi::Value attention(const Napi::CallbackInfo& info) {
  const Types types = types_of(info[0]);
  const Napi::Int32Array lengths = info[1].As<Napi::Int32Array>();
  const int heads = integer(info, 2), head_dim = integer(info, 3);
  const std::vector<int32_t> keys(lengths.Data(), lengths.Data() + lengths.ElementLength());
  int longest = 0;
  for (const int32_t length : keys) longest = std::max(longest, length);
  const auto matrix = [&](Element element) { return std::make_shared<Matrix>(kernels(), longest, heads * head_dim, element); };
  const auto query = matrix(types.attention), key = matrix(types.attention), value = matrix(types.attention), context = matrix(types.wide);
  const auto scratch = std::make_shared<cpu::AlignedBuffer>(kernels().attention_scratch(longest, head_dim));
  return call(info.Env(), [=] {
    for (const int length : keys)
      kernels().attention({length, length, heads, head_dim, query->rows, key->rows, value->rows, context->rows, scratch->data()});
  });
}

Napi::Value residual_norm(const Napi::CallbackInfo& info) {
  const int rows = integer(info, 0), n = integer(info, 1);
  const auto hidden = std::make_shared<Matrix>(kernels(), rows, n, Element::f32), branch = std::make_shared<Matrix>(kernels(), rows, n, Element::f32);
  const std::vector<float> ones(n, 1.f);
  return call(info.Env(), [=] { kernels().residual_norm({rows, n, hidden->rows, branch->rows, ones.data(), ones.data(), 1e-12f}); });
}

Napi::Value convert(const Napi::CallbackInfo& info) {
  const Types types = types_of(info[0]);
  const int rows = integer(info, 1), n = integer(info, 2);
  const auto from = std::make_shared<Matrix>(kernels(), rows, n, Element::f32), to = std::make_shared<Matrix>(kernels(), rows, n, types.input);
  return call(info.Env(), [=] {
    if (types.input != Element::f32) kernels().convert(rows, n, from->rows, to->rows);
  });
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports["variant"] = Napi::String::New(env, cpu::choose_variant("").name);
  exports["peak"] = Napi::Function::New(env, peak_of);
  exports["gemm"] = Napi::Function::New(env, gemm);
  exports["attention"] = Napi::Function::New(env, attention);
  exports["residualNorm"] = Napi::Function::New(env, residual_norm);
  exports["convert"] = Napi::Function::New(env, convert);
  return exports;
}

}  // namespace

NODE_API_MODULE(matryoshka_bench, initialize)
