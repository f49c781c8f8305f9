#include "model/config.h"

#include <sstream>

#include "model/error.h"
#include "model/mapped_file.h"

namespace matryoshka {

constexpr size_t kMaxBytes = 16 << 20;

Config::Config(const std::filesystem::path& path) : source_(path.u8string()) {
  const MappedFile file(path);
  if (file.size() > kMaxBytes) {
    throw Error("ERR_CONFIG_INVALID", source_ + ": expected at most " + std::to_string(kMaxBytes) + " bytes, got " +
                                          std::to_string(file.size()));
  }
  json_ = parse_json(file.text(), source_, "ERR_CONFIG_INVALID");
  if (!json_.as<Json::Object>()) {
    throw Error("ERR_CONFIG_INVALID", source_ + ": expected an object, got " + describe(&json_));
  }
}

void Config::invalid(std::string_view key, const std::string& expected, const std::string& came) const {
  throw Error("ERR_CONFIG_INVALID", source_ + ": " + std::string(key) + ": expected " + expected + ", got " + came);
}

int Config::integer(std::string_view key, int low, int high) const {
  const Json* json = find(key);
  const int64_t* value = json ? json->as<int64_t>() : nullptr;
  if (!value || *value < low || *value > high) {
    invalid(key, "an integer from " + std::to_string(low) + " to " + std::to_string(high), describe(json));
  }
  return static_cast<int>(*value);
}

double Config::number(std::string_view key, double low, double high, double fallback) const {
  const Json* json = find(key);
  if (!json) return fallback;
  const double* real = json->as<double>();
  const int64_t* integer = json->as<int64_t>();
  const double value = real ? *real : integer ? static_cast<double>(*integer) : low;
  if ((!real && !integer) || value < low || value > high) {
    std::ostringstream range;
    range << "a number from " << low << " to " << high;
    invalid(key, range.str(), describe(json));
  }
  return value;
}

std::string Config::text(std::string_view key) const {
  const Json* json = find(key);
  const std::string* value = json ? json->as<std::string>() : nullptr;
  if (!value) invalid(key, "a string", describe(json));
  return *value;
}

std::string Config::text(std::string_view key, std::string_view fallback) const {
  const Json* json = find(key);
  return !json || json->as<std::nullptr_t>() ? std::string(fallback) : text(key);
}

bool Config::flag(std::string_view key) const {
  const Json* json = find(key);
  const bool* value = json ? json->as<bool>() : nullptr;
  return value && *value;
}

CompensationKind read_compensation(const Config& matryoshka) {
  const std::string kind = matryoshka.text("compensation");
  if (kind == "none") return CompensationKind::none;
  if (kind == "affine") return CompensationKind::affine;
  if (kind != "mlp") matryoshka.invalid("compensation", "\"none\", \"affine\" or \"mlp\"", quote(kind));
  return CompensationKind::mlp;
}

HeadKind read_head(const Config& matryoshka) {
  const std::string head = matryoshka.text("head");
  if (head == "linear") return HeadKind::linear;
  if (head != "query") matryoshka.invalid("head", "\"linear\" or \"query\"", quote(head));
  return HeadKind::query;
}

std::vector<int> read_exit_layers(const Config& matryoshka, int layers) {
  matryoshka.integer("formatVersion", 1, 1);
  const Json* json = matryoshka.find("exitLayers");
  const auto fail = [&](const std::string& came) {
    const std::string last = std::to_string(layers);
    matryoshka.invalid("exitLayers",
                       "ascending layers from 1 to " + last + ", the last of them " + last + " (num_hidden_layers)",
                       came);
  };
  const Json::Array* items = json ? json->as<Json::Array>() : nullptr;
  if (!items) fail(describe(json));
  std::vector<int> out;
  for (const Json& item : *items) {
    const int64_t* layer = item.as<int64_t>();
    if (!layer || *layer < 1 || *layer > layers) fail(describe(&item));
    if (!out.empty() && *layer <= out.back()) fail(std::to_string(*layer) + " after " + std::to_string(out.back()));
    out.push_back(static_cast<int>(*layer));
  }
  if (out.empty()) fail("an empty list");
  if (out.back() != layers) fail("a last one of " + std::to_string(out.back()));
  return out;
}

bool may_carry(double share, size_t exit) { return share >= 0 && share < 1 && (exit > 0 || share == 0); }

std::vector<double> read_carry(const Config& matryoshka, size_t exits) {
  std::vector<double> out(exits);
  const Json* json = matryoshka.find("carry");
  if (!json) return out;
  const auto fail = [&](const std::string& came) {
    matryoshka.invalid("carry", "a number of at least 0 and below 1 for each of the " + std::to_string(exits) + " exits, the first of them 0", came);
  };
  const Json::Array* items = json->as<Json::Array>();
  if (!items) fail(describe(json));
  if (items->size() != exits) fail(std::to_string(items->size()) + " of them");
  for (size_t exit = 0; exit < exits; ++exit) {
    const Json& item = (*items)[exit];
    const double* real = item.as<double>();
    const int64_t* integer = item.as<int64_t>();
    const double share = real ? *real : integer ? static_cast<double>(*integer) : -1;
    if (!may_carry(share, exit)) fail(describe(&item) + " for exit " + std::to_string(exit + 1));
    out[exit] = share;
  }
  return out;
}

}  // namespace matryoshka
