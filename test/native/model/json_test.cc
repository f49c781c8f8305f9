#include "model/json.h"

#include "check.h"

namespace matryoshka {
namespace {

Json parse(std::string_view text) { return parse_json(text, "here", "ERR_CONFIG_INVALID"); }

TEST("every kind of value is read") {
  const Json json = parse(R"( {"a": [null, true, false, 0, -12, 1.5, 1e-12, "x"], "b": {}, "c": []} )");
  const Json::Array& items = *json.find("a")->as<Json::Array>();
  CHECK_EQ(items.size(), 8u);
  CHECK(items[0].as<std::nullptr_t>());
  CHECK(*items[1].as<bool>());
  CHECK(!*items[2].as<bool>());
  CHECK_EQ(*items[3].as<int64_t>(), 0);
  CHECK_EQ(*items[4].as<int64_t>(), -12);
  CHECK_EQ(*items[5].as<double>(), 1.5);
  CHECK_EQ(*items[6].as<double>(), 1e-12);
  CHECK_EQ(*items[7].as<std::string>(), "x");
  CHECK(json.find("b")->as<Json::Object>()->empty());
  CHECK(json.find("c")->as<Json::Array>()->empty());
  CHECK(!json.find("d"));
  CHECK(!items[0].find("a"));
}

TEST("integers up to 64 bits stay exact, larger ones become doubles") {
  CHECK_EQ(*parse("9223372036854775807").as<int64_t>(), INT64_MAX);
  CHECK_EQ(*parse("-9223372036854775808").as<int64_t>(), INT64_MIN);
  CHECK_EQ(*parse("9223372036854775808").as<double>(), 9223372036854775808.0);
  CHECK_EQ(*parse("1000000000000000019884624838656").as<double>(), 1e30);
}

TEST("escapes become UTF-8") {
  CHECK_EQ(*parse(R"("\"\\\/\b\f\n\r\t")").as<std::string>(), "\"\\/\b\f\n\r\t");
  CHECK_EQ(*parse(R"("\u0041\u00e9\u20AC\ud83d\ude00")").as<std::string>(), "Aé€😀");
  CHECK_EQ(*parse(R"("é€😀")").as<std::string>(), "é€😀");
  CHECK_EQ(parse(R"("\u0000")").as<std::string>()->size(), 1u);
}

TEST("what RFC 8259 forbids is refused, with the byte where it went wrong") {
  for (const char* text :
       {"",           " ",       "{",         "[",           "[1",   "[1,",    "[1,]",  "{\"a\"}", "{\"a\":}",
        "{\"a\":1,}", "{a:1}",   "{1:1}",     "01",          "-",    "+1",     ".5",    "1.",      "1e",
        "1e+",        "0x1",     "NaN",       "Infinity",    "nul",  "truex",  "1 2",   "'a'",     "\"",
        "\"a",        "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\", "\"\n\"", "[1 2]", "// c\n1", "]"}) {
    CHECK_THROWS(parse(text), "ERR_CONFIG_INVALID", "at byte");
  }
  CHECK_THROWS(parse("[1, 2"), "ERR_CONFIG_INVALID",
               "here: not valid JSON: expected ',' or ']' at byte 5, got the end");
  CHECK_THROWS(parse(std::string_view("1\0", 2)), "ERR_CONFIG_INVALID", "the end of the document at byte 1");
  CHECK_THROWS(parse(std::string_view("\0", 1)), "ERR_CONFIG_INVALID", "a value at byte 0");
}

TEST("a number beyond double is refused") {
  CHECK_THROWS(parse("1e999"), "ERR_CONFIG_INVALID", "range of a double at byte 0");
  CHECK_THROWS(parse("[-1e999]"), "ERR_CONFIG_INVALID", "range of a double at byte 1");
}

TEST("malformed UTF-8 and lone surrogates are refused") {
  for (const char* text :
       {"\"\x80\"", "\"\xC0\x80\"", "\"\xC1\xBF\"", "\"\xE0\x80\x80\"", "\"\xED\xA0\x80\"", "\"\xE2\x82\"",
        "\"\xF0\x80\x80\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xF5\x80\x80\x80\"", "\"\xFF\"", "\"\xF0\x9F\x98"}) {
    CHECK_THROWS(parse(text), "ERR_CONFIG_INVALID", "well-formed UTF-8");
  }
  for (const char* text : {R"("\ud83d")", R"("\ude00")", R"("\ud83d\u0041")", R"("\ud83dx")", R"("\ud83d\ud83d")"}) {
    CHECK_THROWS(parse(text), "ERR_CONFIG_INVALID", "surrogate");
  }
}

TEST("a key that is repeated in an object is refused") {
  CHECK_THROWS(parse(R"({"a": 1, "b": {"c": 1, "d": 2, "\u0063": 3}})"), "ERR_CONFIG_INVALID", "\"c\" is repeated");
  CHECK(parse(R"({"a": {"a": 1}})").find("a")->find("a"));
}

TEST("depth and number of values are bounded") {
  CHECK(parse(std::string(64, '[') + std::string(64, ']')).as<Json::Array>());
  CHECK_THROWS(parse(std::string(66, '[') + std::string(66, ']')), "ERR_CONFIG_INVALID", "64 nested");
  CHECK_THROWS(parse(std::string(10'000'000, '[')), "ERR_CONFIG_INVALID", "64 nested");
  std::string many = "[0";
  for (int i = 0; i < 1 << 20; ++i) many += ",0";
  CHECK_THROWS(parse(many + "]"), "ERR_CONFIG_INVALID", "1048576 values");
}

TEST("quoted text is short, printable and well-formed UTF-8, whatever it was") {
  CHECK_EQ(quote("exit.1"), "\"exit.1\"");
  CHECK_EQ(quote("a\nb\xFFé"),
           "\"a\xEF\xBF\xBD"
           "b\xEF\xBF\xBDé\"");
  CHECK(quote(std::string(1 << 20, 'x')).size() < 200);
}

}  // namespace
}  // namespace matryoshka
