// A JSON config file, and its values by key with type and range checked.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "model/architecture.h"
#include "model/json.h"

namespace matryoshka {

/// Every member throws ERR_CONFIG_INVALID, naming the file and the key, for what is of another type or out of range.
class Config {
 public:
  /// Also throws ERR_FILE.
  explicit Config(const std::filesystem::path& path);

  /// Null when there is no such key.
  const Json* find(std::string_view key) const { return json_.find(key); }
  int integer(std::string_view key, int low, int high) const;
  double number(std::string_view key, double low, double high, double fallback) const;
  std::string text(std::string_view key) const;
  /// `fallback` also for null.
  std::string text(std::string_view key, std::string_view fallback) const;
  bool flag(std::string_view key) const;  ///< true only where the value is true

  const std::string& source() const { return source_; }
  [[noreturn]] void invalid(std::string_view key, const std::string& expected, const std::string& came) const;

 private:
  std::string source_;
  Json json_;
};

/// What matryoshka.json says its exits have beside a head. Throws ERR_CONFIG_INVALID.
enum class CompensationKind : uint8_t { none, affine, mlp };
CompensationKind read_compensation(const Config& matryoshka);

/// linear or query.
HeadKind read_head(const Config& matryoshka);

/// matryoshka.json of a layer-wise checkpoint: format 1. Returns its exit layers, which
/// ascend from at least 1 to `layers`.
std::vector<int> read_exit_layers(const Config& matryoshka, int layers);

/// Whether exit `exit`, counted from 0, may carry this share of the logit of the exit before: one in [0, 1), and 0 at the first.
bool may_carry(double share, size_t exit);

/// [exits] the share of the logit of the exit before that is in each exit's own; all 0 where matryoshka.json has none.
std::vector<double> read_carry(const Config& matryoshka, size_t exits);

}  // namespace matryoshka
