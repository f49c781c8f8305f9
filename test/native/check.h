// A test framework in one page: tests register themselves under a sentence, checks say what they saw.
#pragma once

#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>

#include "model/error.h"

namespace matryoshka::check {

/// Adds a test to the executable; main() runs all of them in order of registration.
struct Registration {
  Registration(const char* name, std::function<void()> body);
};

/// Ends the current test as skipped, with the reason printed.
struct Skipped : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Ends the current test as failed.
[[noreturn]] void fail(const char* file, int line, const std::string& message);

/// Runs `body` and fails unless it throws an Error of that code whose message holds `part`.
void throws(const char* file, int line, const char* text, const std::function<void()>& body, const std::string& code,
            const std::string& part);

template <class A, class B>
void equal(const char* file, int line, const char* text, const A& actual, const B& expected) {
  if (actual == expected) return;
  std::ostringstream message;
  message << text << ": got " << actual << ", expected " << expected;
  fail(file, line, message.str());
}

}  // namespace matryoshka::check

#define CHECK_JOIN_(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN_(a, b)

/// TEST("a sentence") { … }
#define TEST(sentence)                                                                                             \
  static void CHECK_JOIN(test_, __LINE__)();                                                                       \
  static const ::matryoshka::check::Registration CHECK_JOIN(registration_, __LINE__)(sentence,                     \
                                                                                     CHECK_JOIN(test_, __LINE__)); \
  static void CHECK_JOIN(test_, __LINE__)()

#define CHECK(condition) ((condition) ? void() : ::matryoshka::check::fail(__FILE__, __LINE__, "expected " #condition))
#define CHECK_EQ(actual, expected) ::matryoshka::check::equal(__FILE__, __LINE__, #actual, actual, expected)
/// The expression must throw an Error with this code.
#define CHECK_THROWS_CODE(expression, code) CHECK_THROWS(expression, code, "")
/// … and with a message that contains `part`.
#define CHECK_THROWS(expression, code, part) \
  ::matryoshka::check::throws(               \
      __FILE__, __LINE__, #expression, [&] { static_cast<void>(expression); }, code, part)
#define SKIP(reason) throw ::matryoshka::check::Skipped(reason)
