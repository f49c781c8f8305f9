#include "cuda/plugin_stream.h"

#include <dlfcn.h>
#include <unistd.h>

#include <vector>

#include "cuda/plugin.h"
#include "model/error.h"

namespace matryoshka::cuda {
namespace {

struct Loaded {
  const Plugin* plugin = nullptr;
  std::string file, reason;
};

/// The folder that the code of this function was loaded from.
std::string own_folder() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<const void*>(&find_gpus), &info) || !info.dli_fname) return ".";
  const std::string file = info.dli_fname;
  const size_t slash = file.rfind('/');
  return slash == std::string::npos ? "." : file.substr(0, slash);
}

Loaded load() {
  Loaded loaded;
  loaded.file = own_folder() + "/matryoshka_cuda.so";
  void* const object = dlopen(loaded.file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!object) {
    const char* const error = dlerror();
    const bool built = access(loaded.file.c_str(), F_OK) == 0;
    loaded.reason = built ? std::string("the CUDA part cannot be loaded: ") + (error ? error : loaded.file)
                          : "the CUDA part is not built: run `npm run build:cuda` where nvcc is installed";
    return loaded;
  }
  const auto entry = reinterpret_cast<PluginEntry>(dlsym(object, "matryoshka_cuda_plugin"));
  const Plugin* const plugin = entry ? entry() : nullptr;
  if (!plugin || plugin->version != kPluginVersion) loaded.reason = "the CUDA part is of another version: run `npm run build:cuda` again";
  else loaded.plugin = plugin;
  return loaded;
}

/// Loaded once a process, and never unloaded: the driver keeps threads of its own.
const Loaded& loaded() {
  static const Loaded instance = load();
  return instance;
}

class PluginStream final : public Stream {
 public:
  PluginStream(const Plugin& plugin, int index, ElementType type) : plugin_(plugin), index_(index) {
    PluginDevice device;
    check(plugin_.device(index, &device));
    name_ = device.name;
    const auto needs = [&](int capability, const char* code, const char* what) {
      if (device.capability < capability)
        throw Error(code, std::string("Expected a GPU of compute capability ") + what + " but cuda:" + std::to_string(index) + ", " + name_ + ", has " +
                              std::to_string(device.capability / 10) + "." + std::to_string(device.capability % 10));
    };
    needs(75, "ERR_UNSUPPORTED_DEVICE", "7.5 or later");
    if (type == ElementType::bf16) needs(80, "ERR_UNSUPPORTED_DTYPE", "8.0 or later for bf16 (f16 needs 7.5)");
    check(plugin_.open(index, &stream_));
  }
  ~PluginStream() override { plugin_.close(stream_); }

  const KernelTable& kernels() const override { return *plugin_.kernels(); }
  std::string describe() const override { return "cuda:" + std::to_string(index_) + " " + name_; }

  size_t free_bytes() const override {
    size_t bytes = 0;
    check(plugin_.free_bytes(stream_, &bytes));
    return bytes;
  }
  void* allocate(size_t bytes) override { return allocated(plugin_.allocate, bytes, "the GPU"); }
  void release(void* memory) override { plugin_.release(stream_, memory); }
  void* allocate_staging(size_t bytes) override { return allocated(plugin_.allocate_staging, bytes, "the system (pinned memory)"); }
  void release_staging(void* memory) override { plugin_.release_staging(stream_, memory); }

  void upload(void* to, const void* from, size_t bytes) override { check(plugin_.upload(stream_, to, from, bytes)); }
  void fill(void* to, uint8_t value, size_t bytes) override { check(plugin_.fill(stream_, to, value, bytes)); }
  void run(const LaunchSequence& sequence) override {
    list(sequence);
    check(plugin_.run(stream_, launches_.data(), launches_.size(), sequence.again() ? sequence.key().data() : nullptr, sequence.key().size()));
  }
  void download(void* to, const void* from, size_t bytes) override { check(plugin_.download(stream_, to, from, bytes)); }
  Mark mark() override {
    Mark mark = 0;
    check(plugin_.mark(stream_, &mark));
    return mark;
  }
  void wait(Mark mark) override { check(plugin_.wait(stream_, mark)); }

  std::vector<LaunchCost> time(const LaunchSequence& sequence) override {
    list(sequence);
    std::vector<float> milliseconds(sequence.size());
    check(plugin_.time(stream_, launches_.data(), launches_.size(), milliseconds.data()));
    std::vector<LaunchCost> costs;
    for (const float each : milliseconds) costs.push_back({each, 0});
    return costs;
  }

 private:
  void list(const LaunchSequence& sequence) {
    launches_.clear();
    for (size_t i = 0; i < sequence.size(); ++i) launches_.push_back({&sequence.kernel(i), sequence.args(i)});
  }
  void check(const char* error) const {
    if (error) throw Error("ERR_INTERNAL", "GPU " + std::to_string(index_) + " failed while " + error + ". Open the model anew; where that fails too, start the process anew, or use device cpu");
  }
  void* allocated(const char* (*allocate)(void*, size_t, void**, bool*), size_t bytes, const char* whose) const {
    void* memory = nullptr;
    bool exhausted = false;
    const char* const error = allocate(stream_, bytes, &memory, &exhausted);
    if (exhausted)
      throw Error("ERR_OUT_OF_MEMORY", "Expected " + std::to_string(bytes) + " bytes but " + whose +
                                           " has not so much to give; send fewer or shorter documents at a time");
    check(error);
    return memory;
  }

  const Plugin& plugin_;
  int index_;
  std::string name_;
  void* stream_ = nullptr;
  std::vector<PluginLaunch> launches_;
};

}  // namespace

Gpus find_gpus() {
  Gpus gpus;
  gpus.object = loaded().file;
  gpus.reason = loaded().reason;
  const Plugin* const plugin = loaded().plugin;
  if (!plugin) return gpus;
  gpus.toolkit = plugin->toolkit;
  int count = 0;
  if (const char* reason = plugin->devices(&count, &gpus.driver)) {
    gpus.reason = reason;
    return gpus;
  }
  for (int index = 0; index < count; ++index) {
    PluginDevice device;
    if (const char* reason = plugin->device(index, &device)) {
      gpus.reason = reason;
      continue;
    }
    constexpr double kGib = 1 << 30;
    gpus.devices.push_back({index, device.name, device.capability, static_cast<double>(device.total_bytes) / kGib, device.multiprocessors, device.clock_ghz, device.gigabytes_second});
  }
  if (!gpus.devices.empty()) gpus.reason.clear();
  else if (gpus.reason.empty()) gpus.reason = "no CUDA device is visible";
  return gpus;
}

std::unique_ptr<Stream> make_gpu_stream(int index, ElementType type) {
  const Plugin* const plugin = loaded().plugin;
  std::string reason = loaded().reason;
  int count = 0, driver = 0;
  if (plugin)
    if (const char* error = plugin->devices(&count, &driver)) reason = error;
  if (count == 0) throw Error("ERR_UNSUPPORTED_DEVICE", "Expected a GPU for device cuda but " + (reason.empty() ? "no CUDA device is visible" : reason));
  if (index >= count) throw Error("ERR_UNSUPPORTED_DEVICE", "Expected one of the " + std::to_string(count) + " GPUs for device cuda:" + std::to_string(index));
  return std::make_unique<PluginStream>(*plugin, index, type);
}

}  // namespace matryoshka::cuda
