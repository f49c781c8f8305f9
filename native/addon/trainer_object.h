// The JavaScript class over one Trainer: every call a promise, run in order on a thread of its own.
#pragma once

#include <napi.h>

namespace matryoshka::addon {

Napi::Function define_trainer(Napi::Env env);

}  // namespace matryoshka::addon
