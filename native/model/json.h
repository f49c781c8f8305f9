// A small strict JSON reader (RFC 8259) for config files and safetensors headers, safe on hostile input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace matryoshka {

/// One JSON value. Integers that fit are int64_t, every other number is a finite double.
class Json {
 public:
  struct Member;
  using Array = std::vector<Json>;
  using Object = std::vector<Member>;  ///< in file order, keys unique
  using Value = std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object>;

  Value value;

  template <class T>
  const T* as() const {
    return std::get_if<T>(&value);
  }
  /// The member of that name; null when there is none or this is no object.
  const Json* find(std::string_view key) const;
};

struct Json::Member {
  std::string key;
  Json value;
};

/// Reads one document. Rejected: anything RFC 8259 rejects, invalid UTF-8, lone surrogates, a repeated key, numbers
/// beyond double, nesting beyond 64, more than a million values. Throws Error(code), naming `source` and the byte.
Json parse_json(std::string_view text, const std::string& source, const char* code);

/// `text` in quotes for a message: cut to a readable length, control characters replaced.
std::string quote(std::string_view text);
/// What a value is, for "got …" in a message; null pointer reads "nothing".
std::string describe(const Json* json);

}  // namespace matryoshka
