// Turns whatever a piece of work throws into a code and a message: nothing leaves a thread of our own.
#pragma once

#include <exception>
#include <new>
#include <string>

#include "model/error.h"

namespace matryoshka {

template <typename Body>
void guarded(std::string& code, std::string& message, Body body) {
  try {
    body();
  } catch (const Error& error) {
    code = error.code();
    message = error.what();
  } catch (const std::bad_alloc&) {
    code = "ERR_OUT_OF_MEMORY";
    message = "Expected enough memory for this batch but the system gave none; send fewer or shorter documents at a time";
  } catch (const std::exception& error) {
    code = "ERR_INTERNAL";
    message = error.what();
  }
}

}  // namespace matryoshka
