// Feeds damaged checkpoints to the loader: each must open or be refused by an Error, and what opens must be readable.
//
//   fuzz_checkpoint SECONDS SEED           a driver of our own: the same seed gives the same inputs
//   fuzz_checkpoint -max_total_time=60 …   libFuzzer's, which follows coverage: built where MATRYOSHKA_SANITIZE has
//                                          fuzzer-no-link, which clang knows
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "model/checkpoint.h"
#include "model/error.h"
#include "mutate.h"
#include "tiny_checkpoint.h"

namespace matryoshka::fuzz {
namespace {

std::map<std::string, size_t> outcomes;  ///< inputs by error code; "accepted" and "accepted, not finite" by what opened

/// Reads everything a backend would. The sanitizers watch for what lies beyond.
const char* use(const Checkpoint& checkpoint) {
  const Architecture& a = checkpoint.architecture();
  std::vector<const Tensor*> all = checkpoint.tensors();
  const EmbeddingSource embedding = checkpoint.embedding();
  for (const Tensor* tensor : {embedding.word, embedding.position, embedding.type}) all.push_back(tensor);
  for (int layer = 0; layer < a.layers; ++layer) {
    for (int which = 0; which < kProjections; ++which) {
      const LinearSource linear = checkpoint.linear(layer, static_cast<Projection>(which));
      all.insert(all.end(), linear.weights.begin(), linear.weights.end());
      all.insert(all.end(), linear.biases.begin(), linear.biases.end());
    }
    for (const Site site : {Site::attention, Site::mlp}) all.push_back(checkpoint.norm(layer, site).bias);
  }
  for (size_t exit = 0; exit < checkpoint.exit_layers().size(); ++exit) {
    all.push_back(checkpoint.head(static_cast<int>(exit)).weight);
  }
  bool finite = true;
  std::vector<float> values;
  for (const Tensor* tensor : all) {
    values.resize(tensor->count());
    widen(*tensor, 0, values.size(), values.data());
    for (float value : values) finite = finite && std::isfinite(value);
  }
  try {
    checkpoint.check_finite();
  } catch (const Error&) {
    if (finite) throw std::logic_error("check_finite refuses finite weights");
    return "accepted, not finite";
  }
  if (!finite) throw std::logic_error("check_finite passes weights that are not finite");
  return "accepted";
}

/// Opens what lies in `directory`; anything thrown but an Error ends the process, which is how both drivers see a
/// failure.
void open_and_use(const std::string& directory) {
  try {
    ++outcomes[use(*Checkpoint::open(directory))];
  } catch (const Error& error) {
    ++outcomes[error.code()];
  } catch (const std::exception& error) {
    std::fprintf(stderr, "failure: %s (%s)\n", error.what(), directory.c_str());
    std::abort();
  }
}

/// The directory that inputs are written to, in memory where the system has such a place. Only what changed is written.
class Workplace {
 public:
  std::string path() const { return directory_.path(); }
  void hold(const tiny::Files& files) {
    for (const auto& [name, content] : written_) {
      if (!files.count(name)) std::filesystem::remove(std::filesystem::u8path(directory_.path()) / name);
    }
    tiny::Files changed;
    for (const auto& [name, content] : files) {
      const auto old = written_.find(name);
      if (old == written_.end() || old->second != content) changed[name] = content;
    }
    directory_.write(changed);
    written_ = files;
  }

 private:
  static std::filesystem::path parent() {
    std::error_code none;
    const std::filesystem::path memory = "/dev/shm";
    return std::filesystem::is_directory(memory, none) ? memory : std::filesystem::temp_directory_path();
  }

  const tiny::Directory directory_{parent()};
  tiny::Files written_;
};

void report() {
  size_t total = 0;
  for (const auto& [outcome, count] : outcomes) total += count;
  std::printf("%zu inputs\n", total);
  for (const auto& [outcome, count] : outcomes) std::printf("%10zu %s\n", count, outcome.c_str());
}

}  // namespace
}  // namespace matryoshka::fuzz

using namespace matryoshka;

#ifdef MATRYOSHKA_LIBFUZZER
namespace {

/// An input is its files end to end, each as name, NUL, size in 4 bytes, content.
std::string encode(const tiny::Files& files) {
  std::string out;
  for (const auto& [name, content] : files) {
    const auto size = static_cast<uint32_t>(content.size());
    out += name + '\0' + std::string(reinterpret_cast<const char*>(&size), sizeof size) + content;
  }
  return out;
}

tiny::Files decode(const uint8_t* data, size_t size) {
  tiny::Files out;
  std::string rest(reinterpret_cast<const char*>(data), size);
  for (size_t end; (end = rest.find('\0')) != rest.npos && rest.size() >= end + 5;) {
    const std::string name = rest.substr(0, end);
    uint32_t length;
    std::memcpy(&length, rest.data() + end + 1, sizeof length);
    if (name.find('/') == name.npos && name.size() > 4 && name.size() < 64) out[name] = rest.substr(end + 5, length);
    rest.erase(0, end + 5 + std::min<size_t>(length, rest.size() - end - 5));
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static fuzz::Workplace workplace;
  static const int at_exit = std::atexit(fuzz::report);
  static_cast<void>(at_exit);
  workplace.hold(decode(data, size));
  fuzz::open_and_use(workplace.path());
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  static const std::vector<tiny::Files> seeds = fuzz::seeds();
  fuzz::Random random(seed);
  tiny::Files files = decode(data, size);
  if (files.empty() || random.one_in(1000)) files = seeds[random.below(seeds.size())];
  fuzz::mutate(files, random);
  const std::string out = encode(files);
  if (out.size() > max_size) return size;
  std::memcpy(data, out.data(), out.size());
  return out.size();
}
#else
int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: fuzz_checkpoint SECONDS SEED\n"), 2;
  const std::chrono::duration<double> limit(std::atof(argv[1]));
  const uint64_t seed = std::strtoull(argv[2], nullptr, 10);
  const std::vector<tiny::Files> seeds = fuzz::seeds();
  fuzz::Workplace workplace;
  std::printf("seed %llu; an input that fails stays in %s\n", static_cast<unsigned long long>(seed),
              workplace.path().c_str());
  std::fflush(stdout);

  fuzz::Random random(seed);
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < limit) {
    // A run of inputs from one seed: each is on its own, but only the files that differ have to be written.
    const tiny::Files& valid = seeds[random.below(seeds.size())];
    for (int i = 0; i < 256; ++i) {
      tiny::Files files = valid;
      for (size_t changes = 1 + random.below(random.one_in(4) ? 8 : 2); changes > 0; --changes)
        fuzz::mutate(files, random);
      workplace.hold(files);
      fuzz::open_and_use(workplace.path());
    }
  }
  fuzz::report();
}
#endif
