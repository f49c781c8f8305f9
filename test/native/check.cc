// Runs the registered tests and prints a line for each that fails or is skipped, then "N passed, N failed".
#include "check.h"

#include <cstdio>
#include <utility>
#include <vector>

namespace matryoshka::check {
namespace {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Test = std::pair<const char*, std::function<void()>>;
std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

}  // namespace

Registration::Registration(const char* name, std::function<void()> body) {
  tests().emplace_back(name, std::move(body));
}

void fail(const char* file, int line, const std::string& message) {
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + message);
}

void throws(const char* file, int line, const char* text, const std::function<void()>& body, const std::string& code,
            const std::string& part) {
  try {
    body();
  } catch (const Error& error) {
    const std::string came = error.code() + ": " + error.what();
    if (error.code() != code) fail(file, line, std::string(text) + ": expected " + code + ", got " + came);
    if (came.find(part) == std::string::npos) {
      fail(file, line, std::string(text) + ": expected a message with \"" + part + "\", got " + came);
    }
    return;
  }
  fail(file, line, std::string(text) + ": expected " + code + ", nothing was thrown");
}

}  // namespace matryoshka::check

int main() {
  int passed = 0, failed = 0, skipped = 0;
  for (const auto& [name, body] : matryoshka::check::tests()) {
    try {
      body();
      ++passed;
    } catch (const matryoshka::check::Skipped& reason) {
      ++skipped;
      std::printf("SKIP %s: %s\n", name, reason.what());
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAIL %s\n     %s\n", name, error.what());
    }
  }
  std::printf("%d passed, %d failed", passed, failed);
  if (skipped) std::printf(", %d skipped", skipped);
  std::printf("\n");
  return failed ? 1 : 0;
}
