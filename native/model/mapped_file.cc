#include "model/mapped_file.h"

#include <string>
#include <system_error>

#include "model/error.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#if defined(__SANITIZE_ADDRESS__)
#define MATRYOSHKA_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MATRYOSHKA_ASAN
#endif
#endif
#ifdef MATRYOSHKA_ASAN
#include <sanitizer/asan_interface.h>
#endif
#endif

namespace matryoshka {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& why) {
  throw Error("ERR_FILE", path.u8string() + ": cannot read the file: " + why);
}

#ifdef _WIN32
std::string last_error() { return std::system_category().message(static_cast<int>(GetLastError())); }

struct Handle {
  HANDLE value;
  ~Handle() {
    if (value && value != INVALID_HANDLE_VALUE) CloseHandle(value);
  }
};
#else
std::string last_error() { return std::generic_category().message(errno); }

struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) close(value);
  }
};
#endif

#ifdef MATRYOSHKA_ASAN
/// The bytes between the end of the file and the end of its last page are readable, yet never ours to read.
size_t slack(size_t size) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (page - size % page) % page;
}
#endif

}  // namespace

#ifdef _WIN32
MappedFile::MappedFile(const std::filesystem::path& path) {
  const Handle file{CreateFileW(path.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr, OPEN_EXISTING,
                                FILE_ATTRIBUTE_NORMAL, nullptr)};
  LARGE_INTEGER size;
  if (file.value == INVALID_HANDLE_VALUE || !GetFileSizeEx(file.value, &size)) fail(path, last_error());
  size_ = static_cast<size_t>(size.QuadPart);
  if (size_ == 0) return;
  const Handle mapping{CreateFileMappingW(file.value, nullptr, PAGE_READONLY, 0, 0, nullptr)};
  if (!mapping.value) fail(path, last_error());
  data_ = static_cast<const std::byte*>(MapViewOfFile(mapping.value, FILE_MAP_READ, 0, 0, 0));
  if (!data_) fail(path, last_error());
}

MappedFile::~MappedFile() {
  if (data_) UnmapViewOfFile(data_);
}

void MappedFile::release_pages() const {
  // Unlocking pages that were never locked takes them out of the working set; the call reports that as a failure.
  if (data_) VirtualUnlock(const_cast<std::byte*>(data_), size_);
}
#else
MappedFile::MappedFile(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe that nobody writes to must not hang; it is refused below.
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat status;
  if (file.value < 0 || fstat(file.value, &status) != 0) fail(path, last_error());
  if (!S_ISREG(status.st_mode)) fail(path, "it is not a regular file");
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* mapping = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (mapping == MAP_FAILED) fail(path, last_error());
  data_ = static_cast<const std::byte*>(mapping);
#ifdef MATRYOSHKA_ASAN
  ASAN_POISON_MEMORY_REGION(data_ + size_, slack(size_));
#endif
}

MappedFile::~MappedFile() {
  if (!data_) return;
#ifdef MATRYOSHKA_ASAN
  ASAN_UNPOISON_MEMORY_REGION(data_ + size_, slack(size_));
#endif
  munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release_pages() const {
  if (data_) madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}
#endif

}  // namespace matryoshka
