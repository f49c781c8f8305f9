#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <system_error>
#include <utility>

#include "model/error.h"
#include "model/json.h"

namespace matryoshka {
namespace {

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors data is little-endian and is read in place: a big-endian host is not supported"
#endif

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit

constexpr char kCode[] = "ERR_SAFETENSORS_INVALID";

struct DType {
  std::string_view name;
  size_t bytes;
  std::optional<StoredType> stored;
};
constexpr std::array<DType, 15> kDTypes = {{
    {"F32", 4, StoredType::f32},
    {"F16", 2, StoredType::f16},
    {"BF16", 2, StoredType::bf16},
    {"I8", 1, StoredType::i8},
    {"F64", 8, {}},
    {"I64", 8, {}},
    {"U64", 8, {}},
    {"I32", 4, {}},
    {"U32", 4, {}},
    {"I16", 2, {}},
    {"U16", 2, {}},
    {"U8", 1, {}},
    {"BOOL", 1, {}},
    {"F8_E4M3", 1, {}},
    {"F8_E5M2", 1, {}},
}};

std::string text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

/// The sizes in a JSON list, or nothing when it is no list of non-negative integers.
std::optional<std::vector<int64_t>> sizes(const Json* json) {
  const Json::Array* items = json ? json->as<Json::Array>() : nullptr;
  if (!items) return {};
  std::vector<int64_t> out;
  for (const Json& item : *items) {
    const int64_t* size = item.as<int64_t>();
    if (!size || *size < 0) return {};
    out.push_back(*size);
  }
  return out;
}

/// prod(shape) * bytes, or nothing when that is beyond int64.
std::optional<int64_t> byte_count(const std::vector<int64_t>& shape, size_t bytes) {
  int64_t total = static_cast<int64_t>(bytes);
  for (int64_t dim : shape) {
    if (dim != 0 && total > std::numeric_limits<int64_t>::max() / dim) return {};
    total *= dim;
  }
  return total;
}

/// A tensor's place in the data section, [begin, end).
struct Span {
  int64_t begin, end;
  const std::string* name;
};

/// Reads one tensor's header entry; its span is checked against neither the data nor its neighbours.
Span read_entry(const Json::Member& member, const std::string& source, Safetensors::Entry& entry) {
  const auto fail = [&](const std::string& why) { throw Error(kCode, source + ": tensor " + quote(member.key) + why); };
  const Json* dtype = member.value.find("dtype");
  const std::string* name = dtype ? dtype->as<std::string>() : nullptr;
  if (!name) fail(": expected a dtype such as \"F16\", got " + describe(dtype));
  auto shape = sizes(member.value.find("shape"));
  if (!shape) fail(": expected a shape, a list of sizes, got " + describe(member.value.find("shape")));
  const auto offsets = sizes(member.value.find("data_offsets"));
  if (!offsets || offsets->size() != 2 || (*offsets)[0] > (*offsets)[1]) {
    fail(": expected data_offsets [begin, end] with begin <= end, got " +
         (offsets ? text(*offsets) : describe(member.value.find("data_offsets"))));
  }
  const int64_t held = (*offsets)[1] - (*offsets)[0];
  const auto known = std::find_if(kDTypes.begin(), kDTypes.end(), [&](const DType& row) { return row.name == *name; });
  if (known != kDTypes.end()) {
    const auto needed = byte_count(*shape, known->bytes);
    if (needed != held) {
      fail(": " + *name + " of shape " + text(*shape) + " takes " + (needed ? std::to_string(*needed) : "too many") +
           " bytes, but its data_offsets hold " + std::to_string(held));
    }
    entry.usable = known->stored.has_value();
    entry.tensor.type = known->stored.value_or(StoredType::f32);
  }
  entry.dtype = *name;
  entry.tensor.name = member.key;
  entry.tensor.shape = std::move(*shape);
  return {(*offsets)[0], (*offsets)[1], nullptr};
}

/// The tensors must tile [0, size): a gap or an overlap means that the header describes another file.
void check_tiling(std::vector<Span> spans, int64_t size, const std::string& source) {
  std::sort(spans.begin(), spans.end(),
            [](const Span& a, const Span& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  int64_t reached = 0;
  for (const Span& span : spans) {
    const std::string who = source + ": tensor " + quote(*span.name) + " at bytes " + std::to_string(span.begin) +
                            " to " + std::to_string(span.end) + " of the data ";
    if (span.end > size) {
      throw Error(kCode, who + "ends beyond the file, which holds " + std::to_string(size) +
                             " bytes of data: it is truncated; download or copy it again");
    }
    if (span.begin < reached) {
      throw Error(kCode, who + "overlaps the tensor before it, which ends at " + std::to_string(reached));
    }
    if (span.begin > reached) throw Error(kCode, who + "leaves a gap: it should begin at " + std::to_string(reached));
    reached = span.end;
  }
  if (reached != size) {
    throw Error(kCode, source + ": the tensors end at byte " + std::to_string(reached) + " of the data, but the file " +
                           "holds " + std::to_string(size) + " bytes of it");
  }
}

}  // namespace

Safetensors Safetensors::open(const std::filesystem::path& file) {
  Safetensors out(file.u8string());
  out.add(file);
  return out;
}

Safetensors Safetensors::open_sharded(const std::filesystem::path& index) {
  const std::string source = index.u8string();
  const MappedFile file(index);
  if (file.size() > kMaxHeader) {
    throw Error(kCode, source + ": expected at most " + std::to_string(kMaxHeader) + " bytes, got " +
                           std::to_string(file.size()));
  }
  const Json json = parse_json(file.text(), source, kCode);
  const Json* map = json.find("weight_map");
  const Json::Object* places = map ? map->as<Json::Object>() : nullptr;
  if (!places || places->empty()) {
    throw Error(kCode, source + ": expected a weight_map from tensor names to files, got " +
                           (places ? "an empty one" : describe(map)));
  }

  std::set<std::string> shards;
  for (const Json::Member& place : *places) {
    const std::string* shard = place.value.as<std::string>();
    // A plain name: an index from elsewhere must not reach outside the model's directory.
    if (!shard || shard->empty() || *shard == "." || *shard == ".." ||
        shard->find_first_of(std::string_view("/\\:\0", 4)) != std::string::npos) {
      throw Error(kCode, source + ": weight_map of " + quote(place.key) +
                             ": expected the name of a file beside the index, got " + describe(&place.value));
    }
    shards.insert(*shard);
  }
  Safetensors out(source);
  for (const std::string& shard : shards) {
    const std::filesystem::path path = index.parent_path() / std::filesystem::u8path(shard);
    std::error_code none;
    if (!std::filesystem::exists(path, none)) {
      throw Error("ERR_MODEL_INVALID",
                  path.u8string() + ": this shard, listed in " + source + ", is not there: download or copy it");
    }
    out.add(path);
  }
  for (const Json::Member& place : *places) {
    if (!out.find(place.key)) {
      throw Error("ERR_TENSOR_MISSING", source + ": expected tensor " + quote(place.key) + " in " +
                                            describe(&place.value) + ", but no shard has one of that name");
    }
  }
  return out;
}

void Safetensors::add(const std::filesystem::path& path) {
  const std::string source = path.u8string();
  const MappedFile& file = *files_.emplace_back(std::make_unique<MappedFile>(path));
  const auto fail = [&](const std::string& why) { throw Error(kCode, source + ": " + why); };
  if (file.size() < kLengthBytes) {
    fail("expected a safetensors file, which begins with 8 bytes of header length, got " + std::to_string(file.size()) +
         " bytes");
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= std::to_integer<uint64_t>(file.data()[i]) << (8 * i);
  if (length > kMaxHeader) {
    fail("expected a header of at most " + std::to_string(kMaxHeader) + " bytes, got a length of " +
         std::to_string(length) + ": this is not a safetensors file");
  }
  if (length > file.size() - kLengthBytes) {
    fail("expected a header of " + std::to_string(length) + " bytes, but only " +
         std::to_string(file.size() - kLengthBytes) + " follow: the file is truncated; download or copy it again");
  }
  const std::byte* data = file.data() + kLengthBytes + length;
  const auto data_size = static_cast<int64_t>(file.size() - kLengthBytes - length);

  const Json header = parse_json(file.text().substr(kLengthBytes, length), source, kCode);
  const Json::Object* members = header.as<Json::Object>();
  if (!members) fail("expected a header that is a JSON object, got " + describe(&header));
  std::vector<Span> spans;
  for (const Json::Member& member : *members) {
    if (member.key == "__metadata__") continue;
    const auto [place, added] = entries_.try_emplace(member.key);
    if (!added) fail("tensor " + quote(member.key) + " is in another shard already");
    Span span = read_entry(member, source, place->second);
    span.name = &place->first;
    spans.push_back(span);
    // Bounds are checked below, all together; only then is the pointer anyone's to read.
    place->second.tensor.data = data + std::min(span.begin, data_size);
  }
  check_tiling(std::move(spans), data_size, source);
}

const Safetensors::Entry* Safetensors::find(const std::string& name) const {
  const auto place = entries_.find(name);
  return place == entries_.end() ? nullptr : &place->second;
}

const Tensor* Safetensors::require(const std::string& name, const std::vector<int64_t>& shape) const {
  const Entry* entry = find(name);
  if (!entry) {
    throw Error("ERR_TENSOR_MISSING",
                source_ + ": expected a tensor " + quote(name) + " of shape " + text(shape) + ", which is not there");
  }
  if (entry->tensor.shape != shape) {
    throw Error("ERR_TENSOR_SHAPE", source_ + ": tensor " + quote(name) + ": expected shape " + text(shape) +
                                        " from config.json, got " + text(entry->tensor.shape));
  }
  if (!entry->usable || entry->tensor.type == StoredType::i8) {
    throw Error("ERR_TENSOR_DTYPE",
                source_ + ": tensor " + quote(name) + ": expected F32, F16 or BF16, got " + quote(entry->dtype));
  }
  return &entry->tensor;
}

}  // namespace matryoshka
