// The one error of the native side: a stable code for programs, a sentence for people.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace matryoshka {

/// Thrown on purpose only. `code` is one of the ERR_… strings of lib/errors.ts; the message says what was
/// expected, what came, and what to do.
class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message) : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const noexcept { return code_; }

 private:
  std::string code_;
};

}  // namespace matryoshka
