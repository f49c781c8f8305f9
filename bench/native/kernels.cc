// Functions that make kernel calls: each returns a JavaScript function that runs the kernel once, on one thread.
//
//   peak(dtype, rounds) -> operations
//   gemm(dtype, rows, n, k, activated) -> () => void
//   attention(dtype, length, heads, headDim) -> () => void
//
// And pass(directory, dtype, batch), which is pass.h's.
#include <napi.h>

#include <memory>

#include "operands.h"
#include "pass.h"
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
  if (name == "int8") return {kernels().int8, cpu::input_of(kernels().int8), Element::f32, dot ? Element::bf16 : Element::f32};
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
  const auto scratch = std::make_shared<cpu::AlignedBuffer>(kernels().gemm_scratch(k));
  return call(info.Env(), [=] {
    kernels().gemm({rows, input->rows, &weights->panels, output->rows, activated ? cpu::Epilogue::gelu : cpu::Epilogue::none,
                    scratch->as<float>(0)});
  });
}

Napi::Value attention(const Napi::CallbackInfo& info) {
  const Types types = types_of(info[0]);
  const int length = integer(info, 1), heads = integer(info, 2), head_dim = integer(info, 3);
  const auto matrix = [&](Element element) { return std::make_shared<Matrix>(kernels(), length, heads * head_dim, element); };
  const auto query = matrix(types.attention), key = matrix(types.attention), value = matrix(types.attention), context = matrix(types.wide);
  const auto scratch = std::make_shared<cpu::AlignedBuffer>(kernels().attention_scratch(length, head_dim));
  return call(info.Env(), [=] {
    kernels().attention({length, length, heads, head_dim, query->rows, key->rows, value->rows, context->rows, scratch->data()});
  });
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports["variant"] = Napi::String::New(env, cpu::choose_variant("").name);
  exports["peak"] = Napi::Function::New(env, peak_of);
  exports["gemm"] = Napi::Function::New(env, gemm);
  exports["attention"] = Napi::Function::New(env, attention);
  exports["pass"] = Napi::Function::New(env, pass);
  return exports;
}

}  // namespace

NODE_API_MODULE(matryoshka_bench, initialize)
