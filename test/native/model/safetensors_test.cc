#include "model/safetensors.h"

#include <filesystem>

#include "check.h"
#include "tiny_checkpoint.h"

namespace matryoshka {
namespace {

using tiny::Directory;
using tiny::safetensors;

constexpr char kCode[] = "ERR_SAFETENSORS_INVALID";

/// The file with these bytes, opened.
Safetensors open(const std::string& bytes) {
  const Directory directory(tiny::Files{{"model.safetensors", bytes}});
  return Safetensors::open(std::filesystem::u8path(directory.path()) / "model.safetensors");
}

/// One tensor "a" with this header entry, over `data`.
Safetensors open_entry(const std::string& entry, size_t data) {
  return open(safetensors("{\"a\":" + entry + "}", std::string(data, '\0')));
}

std::string length_only(uint64_t length) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(length >> (8 * i));
  return out;
}

TEST("tensors are found by name with type, shape and bytes, and stay valid when the file is moved") {
  Safetensors first = open(safetensors({{"a", "F16", {2, 3}, "abcdefghijkl"}, {"b", "I8", {}, "z"}}));
  const Safetensors moved = std::move(first);
  const Tensor& a = moved.find("a")->tensor;
  CHECK(a.type == StoredType::f16 && a.shape == std::vector<int64_t>({2, 3}));
  CHECK_EQ(std::string(reinterpret_cast<const char*>(a.data), a.bytes()), "abcdefghijkl");
  CHECK_EQ(moved.find("b")->tensor.count(), 1u);
  CHECK(!moved.find("c"));
  CHECK(!moved.find("__metadata__"));
}

TEST("a file without tensors, and a tensor without elements, are fine") {
  CHECK(open(safetensors("{}", "")).entries().empty());
  CHECK_EQ(open_entry(R"({"dtype":"F32","shape":[0,5],"data_offsets":[0,0]})", 0).find("a")->tensor.bytes(), 0u);
}

TEST("other dtypes are tolerated, known or not, and marked unusable") {
  CHECK(!open_entry(R"({"dtype":"I64","shape":[1,2],"data_offsets":[0,16]})", 16).find("a")->usable);
  CHECK(!open_entry(R"({"dtype":"F4","shape":[8],"data_offsets":[0,4]})", 4).find("a")->usable);
}

TEST("a header length beyond the file or beyond sense is refused before anything is read") {
  CHECK_THROWS(open(""), kCode, "got 0 bytes");
  CHECK_THROWS(open("1234567"), kCode, "got 7 bytes");
  CHECK_THROWS(open(length_only(uint64_t{1} << 60)), kCode, "got a length of 1152921504606846976");
  CHECK_THROWS(open(length_only(UINT64_MAX) + "{}"), kCode, "got a length of 18446744073709551615");
  CHECK_THROWS(open(length_only(100) + "{}"), kCode, "only 2 follow: the file is truncated");
  CHECK_THROWS(open(length_only(3) + "{}"), kCode, "truncated");
  CHECK_THROWS(open(length_only(0)), kCode, "not valid JSON");
}

TEST("a header that is no JSON object is refused") {
  CHECK_THROWS(open(safetensors("{\"a\":", "")), kCode, "not valid JSON");
  CHECK_THROWS(open(safetensors("[]", "")), kCode, "got a list");
  CHECK_THROWS(open(safetensors("<html>404</html>", "")), kCode, "not valid JSON");
  CHECK_THROWS(open(safetensors(std::string("{}\0\0", 4), "")), kCode, "not valid JSON");
}

TEST("a tensor's entry must have a dtype, a shape and offsets that agree") {
  CHECK_THROWS(open_entry("7", 0), kCode, "tensor \"a\": expected a dtype");
  CHECK_THROWS(open_entry(R"({"dtype":1,"shape":[],"data_offsets":[0,4]})", 4), kCode, "expected a dtype");
  CHECK_THROWS(open_entry(R"({"dtype":"F32","data_offsets":[0,4]})", 4), kCode, "expected a shape");
  CHECK_THROWS(open_entry(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4), kCode, "expected a shape");
  CHECK_THROWS(open_entry(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,4]})", 4), kCode, "expected a shape");
  CHECK_THROWS(open_entry(R"({"dtype":"F32","shape":[1]})", 4), kCode, "expected data_offsets");
  CHECK_THROWS(open_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", 4), kCode, "expected data_offsets");
  CHECK_THROWS(open_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4), kCode, "begin <= end");
  CHECK_THROWS(open_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})", 4), kCode, "expected data_offsets");
  CHECK_THROWS(open_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4), kCode,
               "F32 of shape [2] takes 8 bytes, but its data_offsets hold 4");
}

TEST("sizes whose product overflows are refused") {
  CHECK_THROWS(open_entry(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0), kCode,
               "too many bytes");
  CHECK_THROWS(open_entry(R"({"dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,4]})", 4), kCode,
               "too many");
  CHECK_THROWS(open_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,9223372036854775807]})", 4), kCode, "hold");
  CHECK_THROWS(open_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]})", 4), kCode,
               "expected data_offsets");
}

TEST("tensors must tile the data: beyond its end, overlapping, gaps and leftovers are refused") {
  const std::string f32 = R"({"dtype":"F32","shape":[1],"data_offsets":)";
  const auto two = [&](const std::string& a, const std::string& b, size_t data) {
    return open(safetensors("{\"a\":" + f32 + a + "},\"b\":" + f32 + b + "}}", std::string(data, '\0')));
  };
  CHECK_EQ(two("[4,8]", "[0,4]", 8).entries().size(), 2u);
  CHECK_THROWS(two("[0,4]", "[4,8]", 7), kCode, "tensor \"b\" at bytes 4 to 8 of the data ends beyond the file");
  CHECK_THROWS(two("[0,4]", "[2,6]", 8), kCode, "tensor \"b\" at bytes 2 to 6 of the data overlaps");
  CHECK_THROWS(two("[0,4]", "[0,4]", 4), kCode, "overlaps");
  CHECK_THROWS(two("[0,4]", "[5,9]", 9), kCode, "leaves a gap: it should begin at 4");
  CHECK_THROWS(two("[0,4]", "[4,8]", 12), kCode, "end at byte 8 of the data, but the file holds 12");
}

TEST("a name that is listed twice is refused") {
  const std::string entry = R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  CHECK_THROWS(open(safetensors("{\"a\":" + entry + ",\"a\":" + entry + "}", "")), kCode, "\"a\" is repeated");
}

TEST("a directory, or nothing, where the file should be is an error of the file") {
  const Directory directory;
  CHECK_THROWS(Safetensors::open(directory.path()), "ERR_FILE", "not a regular file");
  CHECK_THROWS(Safetensors::open(std::filesystem::u8path(directory.path()) / "none"), "ERR_FILE",
               "cannot read the file");
}

}  // namespace
}  // namespace matryoshka
