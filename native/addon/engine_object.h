// The JavaScript class over one Engine: promises on one side, jobs on the other.
#pragma once

#include <napi.h>

namespace matryoshka::addon {

Napi::Function define_engine(Napi::Env env);

}  // namespace matryoshka::addon
