#include "model/json.h"

#include <algorithm>
#include <charconv>
#include <locale>
#include <sstream>
#include <utility>

#include "model/error.h"

namespace matryoshka {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxValues = 1 << 20;  // bounds memory: a value costs 40 bytes however short its text is
constexpr size_t kQuotedBytes = 96;

/// Length of the UTF-8 sequence at the front of `text`, 0 if it is not well-formed (Unicode 15, table 3-7).
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto in = [&](size_t i, unsigned low, unsigned high) { return byte(i) >= low && byte(i) <= high; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return text.empty() ? 0 : 1;
  if (lead >= 0xC2 && lead <= 0xDF) return in(1, 0x80, 0xBF) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    return in(1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF) && in(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool second = in(1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF);
    return second && in(2, 0x80, 0xBF) && in(3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

void append_utf8(std::string& out, uint32_t point) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((point >> shift) & 0x3F)); };
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += static_cast<char>(0xC0 | (point >> 6));
    tail(0);
  } else if (point < 0x10000) {
    out += static_cast<char>(0xE0 | (point >> 12));
    tail(6), tail(0);
  } else {
    out += static_cast<char>(0xF0 | (point >> 18));
    tail(12), tail(6), tail(0);
  }
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& source, const char* code)
      : text_(text), source_(source), code_(code) {}

  Json document() {
    Json root = value(0);
    space();
    if (at_ < text_.size()) fail("the end of the document");
    return root;
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    const std::string came = at_ < text_.size() ? quote(text_.substr(at_, 12)) : "the end of the text";
    throw Error(code_, source_ + ": not valid JSON: expected " + expected + " at byte " + std::to_string(at_) +
                           ", got " + came);
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void space() {
    while (at_ < text_.size() && (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t')) ++at_;
  }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Json value(int depth) {
    if (depth > kMaxDepth) fail("at most " + std::to_string(kMaxDepth) + " nested values");
    if (++values_ > kMaxValues) fail("at most " + std::to_string(kMaxValues) + " values");
    space();
    const char c = peek();
    if (c == '{') return {object(depth)};
    if (c == '[') return {array(depth)};
    if (c == '"') return {string()};
    if (c == '-' || (c >= '0' && c <= '9')) return {number()};
    if (take("true")) return {true};
    if (take("false")) return {false};
    if (take("null")) return {nullptr};
    fail("a value");
  }

  Json::Object object(int depth) {
    const size_t start = at_++;
    Json::Object members;
    space();
    if (take('}')) return members;
    do {
      space();
      if (peek() != '"') fail("a key in quotes");
      std::string key = string();
      space();
      if (!take(':')) fail("':'");
      members.push_back({std::move(key), value(depth + 1)});
      space();
    } while (take(','));
    if (!take('}')) fail("',' or '}'");
    std::vector<std::string_view> keys;
    for (const Json::Member& member : members) keys.push_back(member.key);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end()) {
      at_ = start;
      fail("each key once, but " + quote(*twice) + " is repeated in the object");
    }
    return members;
  }

  Json::Array array(int depth) {
    ++at_;
    Json::Array items;
    space();
    if (take(']')) return items;
    do {
      items.push_back(value(depth + 1));
      space();
    } while (take(','));
    if (!take(']')) fail("',' or ']'");
    return items;
  }

  std::string string() {
    ++at_;
    std::string out;
    while (!take('"')) {
      if (static_cast<unsigned char>(peek()) < 0x20) fail("a closing quote and no bare control character");
      if (take('\\')) {
        escape(out);
        continue;
      }
      const size_t length = utf8_length(text_.substr(at_));
      if (length == 0) fail("well-formed UTF-8");
      out.append(text_.substr(at_, length));
      at_ += length;
    }
    return out;
  }

  void escape(std::string& out) {
    static constexpr std::string_view names = "\"\\/bfnrt", bytes = "\"\\/\b\f\n\r\t";
    if (take('u')) {
      uint32_t point = hex4();
      if (point >= 0xD800 && point < 0xDC00 && take("\\u")) {
        const uint32_t low = hex4();
        if (low < 0xDC00 || low > 0xDFFF) fail("a low surrogate before this");
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
      }
      if (point >= 0xD800 && point <= 0xDFFF) fail("a surrogate pair before this");
      return append_utf8(out, point);
    }
    const size_t which = at_ < text_.size() ? names.find(peek()) : names.npos;
    if (which == names.npos) fail("an escape");
    out += bytes[which];
    ++at_;
  }

  uint32_t hex4() {
    uint32_t point = 0;
    const char* begin = text_.data() + at_;
    if (text_.size() - at_ < 4 || std::from_chars(begin, begin + 4, point, 16).ptr != begin + 4)
      fail("four hex digits");
    at_ += 4;
    return point;
  }

  void digits() {
    if (peek() < '0' || peek() > '9') fail("a digit");
    while (peek() >= '0' && peek() <= '9') ++at_;
  }

  Json::Value number() {
    const size_t start = at_;
    bool whole = true;
    take('-');
    if (!take('0')) digits();
    if (take('.')) whole = false, digits();
    if (take('e') || take('E')) {
      whole = false;
      if (!take('+')) take('-');
      digits();
    }
    const std::string_view token = text_.substr(start, at_ - start);
    int64_t integer = 0;
    if (whole && std::from_chars(token.data(), token.data() + token.size(), integer).ec == std::errc()) return integer;
    // Not from_chars, which some standard libraries still lack for double, nor strtod, which heeds the locale.
    std::istringstream stream{std::string(token)};
    stream.imbue(std::locale::classic());
    double real = 0;
    if (!(stream >> real)) {
      at_ = start;
      fail("a number within the range of a double");
    }
    return real;
  }

  std::string_view text_;
  const std::string& source_;
  const char* code_;
  size_t at_ = 0;
  size_t values_ = 0;
};

}  // namespace

const Json* Json::find(std::string_view key) const {
  const Object* members = as<Object>();
  if (!members) return nullptr;
  for (const Member& member : *members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

Json parse_json(std::string_view text, const std::string& source, const char* code) {
  return Parser(text, source, code).document();
}

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    if (at >= kQuotedBytes) return out + "…\"";
    const size_t length = utf8_length(text.substr(at));
    const unsigned char c = static_cast<unsigned char>(text[at]);
    if (length == 0 || c < 0x20 || c == 0x7F) {
      out += "\xEF\xBF\xBD";  // U+FFFD, so that a message is always well-formed UTF-8
      ++at;
    } else {
      out.append(text.substr(at, length));
      at += length;
    }
  }
  return out + "\"";
}

std::string describe(const Json* json) {
  if (!json) return "nothing";
  if (const auto* text = json->as<std::string>()) return quote(*text);
  if (const auto* integer = json->as<int64_t>()) return std::to_string(*integer);
  if (const auto* boolean = json->as<bool>()) return *boolean ? "true" : "false";
  if (const auto* real = json->as<double>()) {
    std::ostringstream stream;
    stream.imbue(std::locale::classic());
    stream << *real;
    return stream.str();
  }
  return json->as<Json::Array>() ? "a list" : json->as<Json::Object>() ? "an object" : "null";
}

}  // namespace matryoshka
