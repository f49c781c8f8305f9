#include "train/tensor_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#ifdef _WIN32
#include <io.h>
#else
#include <fcntl.h>
#include <unistd.h>
#endif

#include "model/error.h"

namespace matryoshka::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNames[] = {"F32", "F16", "BF16", "I8"};  // by StoredType

size_t bytes_of(const OutputTensor& tensor) {
  size_t bytes = size_of(tensor.type);
  for (const int64_t d : tensor.shape) bytes *= static_cast<size_t>(d);
  return bytes;
}

/// Names are those of a checkpoint that was read, or ours: nothing that JSON has to escape but quotes and backslashes.
std::string quoted(const std::string& name) {
  std::string out = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string header_of(const std::vector<OutputTensor>& tensors) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  size_t at = 0;
  for (const OutputTensor& tensor : tensors) {
    header += "," + quoted(tensor.name) + R"(:{"dtype":")" + kNames[static_cast<int>(tensor.type)] + R"(","shape":[)";
    for (size_t i = 0; i < tensor.shape.size(); ++i) header += (i ? "," : "") + std::to_string(tensor.shape[i]);
    header += R"(],"data_offsets":[)" + std::to_string(at) + "," + std::to_string(at + bytes_of(tensor)) + "]}";
    at += bytes_of(tensor);
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');  // so that the data is aligned
  return header;
}

/// A file that goes away again unless it is kept.
class PendingFile {
 public:
  explicit PendingFile(const fs::path& target) : target_(target), path_(target.u8string() + ".partial") {
    file_ = std::fopen(path_.c_str(), "wb");
    if (!file_) fail("create");
  }
  ~PendingFile() {
    if (!file_) return;
    std::fclose(file_);
    std::remove(path_.c_str());
  }
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  void write(const void* data, size_t bytes) {
    if (bytes && std::fwrite(data, 1, bytes, file_) != bytes) fail("write");
  }

  void keep() {
    if (std::fflush(file_) != 0 || !sync()) fail("write");
    std::FILE* const file = file_;
    file_ = nullptr;
    if (std::fclose(file) != 0) fail("write");
    std::error_code error;
    fs::rename(fs::u8path(path_), target_, error);
    if (error) {
      errno = error.value();
      fail("rename");
    }
    sync_directory();
  }

 private:
  [[noreturn]] void fail(const std::string& what) {
    const int reason = errno;
    if (file_) std::fclose(file_);
    file_ = nullptr;
    std::remove(path_.c_str());
    throw Error("ERR_FILE", path_ + ": cannot " + what + " this file: " + std::strerror(reason));
  }

#ifdef _WIN32
  bool sync() { return _commit(_fileno(file_)) == 0; }
  void sync_directory() {}
#else
  bool sync() { return fsync(fileno(file_)) == 0; }
  /// Makes the rename last through a power cut; some file systems refuse, and then it is as good as theirs.
  void sync_directory() {
    const fs::path parent = target_.has_parent_path() ? target_.parent_path() : fs::path(".");
    const int directory = ::open(parent.c_str(), O_RDONLY);
    if (directory < 0) return;
    fsync(directory);
    ::close(directory);
  }
#endif

  const fs::path target_;
  const std::string path_;
  std::FILE* file_ = nullptr;
};

}  // namespace

void write_safetensors(const fs::path& path, const std::vector<OutputTensor>& tensors) {
  const std::string header = header_of(tensors);
  unsigned char length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  PendingFile file(path);
  file.write(length, sizeof length);
  file.write(header.data(), header.size());
  for (const OutputTensor& tensor : tensors) file.write(tensor.data, bytes_of(tensor));
  file.keep();
}

uint16_t to_f16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // rounds beyond 65504
  if (magnitude < 0x38800000) {  // subnormal: added to 1/2, the mantissa's last place is worth 2^-24
    float value;
    std::memcpy(&value, &magnitude, 4);
    value += 0.5f;
    std::memcpy(&bits, &value, 4);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000));
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | (rounded - 0x38000000) >> 13);
}

}  // namespace matryoshka::train
