#include "mutate.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

namespace matryoshka::fuzz {
namespace {

const char* const kNumbers[] = {"0",
                                "-1",
                                "1",
                                "2",
                                "3",
                                "8",
                                "255",
                                "256",
                                "2147483647",
                                "2147483648",
                                "4294967296",
                                "9223372036854775807",
                                "9223372036854775808",
                                "18446744073709551615",
                                "-9223372036854775808",
                                "1.5",
                                "1e3",
                                "-0",
                                "1e-400",
                                "1e400",
                                "0.0",
                                "1152921504606846976"};
const char* const kStrings[] = {"F32",
                                "F16",
                                "BF16",
                                "I8",
                                "I64",
                                "U8",
                                "BOOL",
                                "F4",
                                "",
                                "bert",
                                "xlm-roberta",
                                "roberta",
                                "gelu",
                                "relu",
                                "gelu_new",
                                "absolute",
                                "relative_key",
                                "linear",
                                "none",
                                "__metadata__",
                                "dtype",
                                "shape",
                                "data_offsets",
                                "weight_map",
                                "exitLayers",
                                "../config.json",
                                ".",
                                "config.json",
                                "model.safetensors",
                                "embeddings.LayerNorm.gamma",
                                "classifier.weight",
                                "\\ud800",
                                "\\u0000",
                                "\\ud83d\\ude00",
                                "\xC3\xA9",
                                "\xC3"};
const char* const kValues[] = {"null", "true",  "[]",      "{}",
                               "[0]",  "[1,2]", "[0,0]",   "[[[[[[[[]]]]]]]]",
                               "\"\"", "1",     "\"F16\"", "{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}"};

template <size_t N>
const char* pick(const char* const (&from)[N], Random& random) {
  return from[random.below(N)];
}

struct Token {
  size_t begin, end;
  char kind;  ///< '"' string, '0' number or word, else the punctuation itself
};

std::vector<Token> tokens(const std::string& text) {
  std::vector<Token> out;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    size_t end = at + 1;
    if (c == '"') {
      while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
      end = std::min(end + 1, text.size());
      out.push_back({at, end, '"'});
    } else if (c == ' ' || c == '\n') {
    } else if (std::string("{}[],:").find(c) != std::string::npos) {
      out.push_back({at, end, c});
    } else {
      while (end < text.size() && std::string("{}[],:\" \n").find(text[end]) == std::string::npos) ++end;
      out.push_back({at, end, '0'});
    }
    at = end;
  }
  return out;
}

/// End of the value that begins at token `i`: the token after it.
size_t value_end(const std::vector<Token>& all, size_t i) {
  int depth = 0;
  for (; i < all.size(); ++i) {
    if (all[i].kind == '{' || all[i].kind == '[') ++depth;
    if (all[i].kind == '}' || all[i].kind == ']') --depth;
    if (depth <= 0) return i + 1;
  }
  return all.size();
}

void mutate_bytes(std::string& bytes, Random& random) {
  if (bytes.empty() || random.one_in(8)) {
    bytes.insert(random.below(bytes.size() + 1), std::string(1 + random.below(9), static_cast<char>(random.bits())));
    return;
  }
  const size_t at = random.below(bytes.size());
  switch (random.below(5)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
      break;
    case 1:
      bytes[at] = static_cast<char>(random.bits());
      break;
    case 2:
      bytes.resize(at);
      break;
    case 3:
      bytes.erase(at, 1 + random.below(8));
      break;
    default: {  // an F16, BF16 or F32 that is not finite, at any alignment
      const std::string patterns[] = {
          {"\x00\x7C", 2}, {"\x80\xFF", 2}, {"\x00\x00\x80\x7F", 4}, {"\xFF\x7F\x80\x7F", 4}};
      const std::string& pattern = patterns[random.below(std::size(patterns))];
      bytes.replace(at, pattern.size(), pattern);
    }
  }
}

void mutate_json(std::string& text, Random& random) {
  const std::vector<Token> all = tokens(text);
  if (all.empty() || random.one_in(16)) return mutate_bytes(text, random);
  // Start anywhere, then walk to a token that the change applies to; none means that the text stays as it is.
  const auto find = [&](const char* kinds) {
    const size_t start = random.below(all.size());
    for (size_t i = 0; i < all.size(); ++i) {
      const size_t at = (start + i) % all.size();
      if (std::string(kinds).find(all[at].kind) != std::string::npos) return at;
    }
    return all.size();
  };
  const auto span = [&](size_t i) { return std::pair(all[i].begin, all[i].end - all[i].begin); };
  const auto replace = [&](size_t i, const std::string& with) { text.replace(span(i).first, span(i).second, with); };
  switch (random.below(8)) {
    case 0:
      if (const size_t i = find("0"); i < all.size()) replace(i, pick(kNumbers, random));
      break;
    case 1: {  // a neighbouring number: off by one, doubled, halved
      const size_t i = find("0");
      if (i == all.size() || all[i].end - all[i].begin > 9 || text[all[i].begin] < '0' || text[all[i].begin] > '9')
        break;
      const int64_t n = std::strtoll(text.c_str() + all[i].begin, nullptr, 10);
      const int64_t near[] = {n - 1, n + 1, 2 * n, n / 2, n + 8, n - 8};
      replace(i, std::to_string(near[random.below(std::size(near))]));
      break;
    }
    case 2:
      if (const size_t i = find("\""); i < all.size()) replace(i, '"' + std::string(pick(kStrings, random)) + '"');
      break;
    case 3: {  // one string in the place of another: names swap places, keys repeat
      const size_t from = find("\""), to = find("\"");
      if (from < all.size()) replace(to, text.substr(span(from).first, span(from).second));
      break;
    }
    case 4: {  // a member or item goes
      const size_t i = find(",");
      if (i == all.size()) break;
      size_t end = value_end(all, i + 1);
      if (end < all.size() && all[end].kind == ':') end = value_end(all, end + 1);
      text.erase(all[i].begin, all[end - 1].end - all[i].begin);
      break;
    }
    case 5: {  // a member or item comes twice
      const size_t i = find(",");
      if (i == all.size()) break;
      size_t end = value_end(all, i + 1);
      if (end < all.size() && all[end].kind == ':') end = value_end(all, end + 1);
      text.insert(all[i].begin, text.substr(all[i].begin, all[end - 1].end - all[i].begin));
      break;
    }
    case 6: {  // any value in the place of a whole one
      const size_t i = find(":");
      if (i + 1 >= all.size()) break;
      const size_t end = value_end(all, i + 1);
      text.replace(all[i + 1].begin, all[end - 1].end - all[i + 1].begin, pick(kValues, random));
      break;
    }
    default:
      if (const size_t i = find("{}[],:"); i < all.size()) replace(i, std::string(1, "{}[],:"[random.below(6)]));
  }
}

void mutate_safetensors(std::string& file, Random& random) {
  uint64_t length = 0;
  for (size_t i = 0; i < 8 && i < file.size(); ++i) length |= uint64_t{static_cast<unsigned char>(file[i])} << (8 * i);
  if (file.size() < 8 || length > file.size() - 8) return mutate_bytes(file, random);
  std::string header = file.substr(8, length), data = file.substr(8 + length);
  if (random.one_in(4)) {
    mutate_bytes(data, random);
  } else if (random.one_in(8)) {
    const uint64_t lengths[] = {0, length - 1, length + 1, uint64_t{1} << 60, ~uint64_t{0}, file.size(), random.bits()};
    const uint64_t other = lengths[random.below(std::size(lengths))];
    for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(other >> (8 * i));
    return;
  } else {
    mutate_json(header, random);
  }
  file = tiny::safetensors(header, data);
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

uint64_t Random::bits() {
  uint64_t z = state_ += 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

std::vector<tiny::Files> seeds() {
  tiny::Model extra = tiny::layerwise_bert("F32");
  extra.weights.push_back({"embeddings.position_ids", "I64", {1, 10}, std::string(80, '\0')});
  extra.weights.push_back({"unused", "F16", {2, 3}, std::string(12, '\0')});  // of any shape, and last in the file
  return {tiny::layerwise_bert().files(), tiny::bert_classifier().files(), tiny::xlm_roberta_classifier().files(),
          tiny::layerwise_bert("BF16").sharded_files(), extra.files()};
}

void mutate(tiny::Files& files, Random& random) {
  if (files.empty()) return;
  const auto at = std::next(files.begin(), static_cast<std::ptrdiff_t>(random.below(files.size())));
  if (random.one_in(200)) {
    files.erase(at);
  } else if (ends_with(at->first, ".json")) {
    mutate_json(at->second, random);
  } else {
    mutate_safetensors(at->second, random);
  }
}

}  // namespace matryoshka::fuzz
