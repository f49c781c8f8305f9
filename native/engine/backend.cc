#include "engine/backend.h"

#include "model/error.h"

namespace matryoshka {

void Backend::decide(const ExitRule&, int) {
  throw Error("ERR_UNSUPPORTED_DEVICE", "Expected a device that can stop documents early, but " + describe() + " cannot yet");
}

}  // namespace matryoshka
