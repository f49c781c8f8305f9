// Whole passes over a batch, with the time of each kind of op.
#pragma once

#include <napi.h>

namespace matryoshka::bench {

/// (directory, dtype, { tokenIds, typeIds?, cuSeqlens, listOffsets }) -> { run(), seconds() }: run makes one pass to
/// full depth on the calling thread; seconds returns what all passes so far took together, by part and in `whole`.
Napi::Value pass(const Napi::CallbackInfo& info);

}  // namespace matryoshka::bench
