// A whole file mapped into memory, read only, for as long as the object lives.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace matryoshka {

/// Nothing is read until it is touched. The file must not be shortened while it is mapped: the system then has no
/// bytes to give and ends the process.
class MappedFile {
 public:
  /// Throws ERR_FILE when the path is not a readable regular file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  /// Drops the resident pages; they come back from the file when touched.
  void release_pages() const;

 private:
  const std::byte* data_ = nullptr;  ///< null when the file is empty
  size_t size_ = 0;
};

}  // namespace matryoshka
