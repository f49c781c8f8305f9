#include "cuda/emulator_stream.h"

#include <cstdlib>
#include <cstring>
#include <limits>

#include "cuda/emulator_kernels.h"
#include "model/error.h"
#include "simt/emulator.h"

namespace matryoshka::cuda {
namespace {

constexpr int kBlocks = 3;  // of a persistent grid: more than one, and no divisor of common tile counts

class EmulatorStream final : public Stream {
 public:
  const KernelTable& kernels() const override { return emulator_kernels(); }
  std::string describe() const override { return "emulator"; }

  size_t free_bytes() const override { return std::numeric_limits<size_t>::max(); }
  void* allocate(size_t bytes) override {
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, bytes ? bytes : 1))
      throw Error("ERR_OUT_OF_MEMORY", "Expected " + std::to_string(bytes) + " bytes for the emulated device but the system gave none");
    return memory;
  }
  void release(void* memory) override { free(memory); }
  void* allocate_staging(size_t bytes) override { return allocate(bytes); }
  void release_staging(void* memory) override { free(memory); }

  void upload(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void fill(void* to, uint8_t value, size_t bytes) override { std::memset(to, value, bytes); }
  void download(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void run(const LaunchSequence& sequence) override {
    for (size_t i = 0; i < sequence.size(); ++i) {
      const Kernel& kernel = sequence.kernel(i);
      // POSIX: function pointers survive the way through const void*.
      const auto entry = reinterpret_cast<void (*)(const void*)>(const_cast<void*>(kernel.entry));
      simt::launch(entry, sequence.args(i), kernel.one_block ? 1 : kBlocks, kernel.threads, kernel.shared_bytes);
    }
  }
  void wait() override {}
};

}  // namespace

std::unique_ptr<Stream> make_emulator_stream() { return std::make_unique<EmulatorStream>(); }

}  // namespace matryoshka::cuda
