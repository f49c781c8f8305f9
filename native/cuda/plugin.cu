// The CUDA object: the kernels as nvcc sees them and the runtime calls that queue them, behind the functions of plugin.h.
#include "cuda/plugin.h"

#include <cuda_runtime.h>

#include <cstdio>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "cuda/kernels/instances.cuh"

namespace matryoshka::cuda {
namespace {

/// More than batches under way, so that a moment asked for is rarely one that has been recorded over; a later one does too.
constexpr int kMarks = 8;

struct Queue {
  int device = 0;
  int multiprocessors = 0;
  cudaStream_t uploads = nullptr, kernels = nullptr, downloads = nullptr;
  cudaEvent_t uploaded = nullptr, computed = nullptr;  ///< the last of those lines' work
  cudaEvent_t marks[kMarks] = {};
  uint64_t next_mark = 0;
  std::map<const void*, int> blocks;  ///< of each kernel that has run: how many the device holds at once
  std::map<std::string, cudaGraphExec_t> graphs;  ///< of sequences that have run, by their key
  bool graphs_work = true;

  void forget_graphs() {
    for (const auto& [key, graph] : graphs) cudaGraphExecDestroy(graph);  // one that still runs is kept until it is done
    graphs.clear();
  }
};

/// A server has a handful of rules and sizes; whoever has more pays for capturing now and then.
constexpr size_t kMostGraphs = 64;

const char* sentence(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return nullptr;
  static thread_local char text[256];
  std::snprintf(text, sizeof text, "%s: %s (%s)", doing, cudaGetErrorString(error), cudaGetErrorName(error));
  cudaGetLastError();  // errors that do not stick are told once
  return text;
}

Queue& queue_of(void* stream) {
  Queue& queue = *static_cast<Queue*>(stream);
  cudaSetDevice(queue.device);  // a stream may be used from any thread
  return queue;
}

const char* devices(int* count, int* driver) {
  *count = *driver = 0;
  cudaDriverGetVersion(driver);
  const cudaError_t error = cudaGetDeviceCount(count);
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) cudaGetLastError();
  if (error == cudaErrorNoDevice) return "no CUDA device is visible";
  if (error == cudaErrorInsufficientDriver) return *driver ? "the NVIDIA driver is too old for this build" : "no NVIDIA driver is installed";
  return sentence(error, "asking for CUDA devices");
}

const char* device(int index, PluginDevice* out) {
  cudaDeviceProp properties;
  if (const char* error = sentence(cudaGetDeviceProperties(&properties, index), "asking about a CUDA device")) return error;
  std::snprintf(out->name, sizeof out->name, "%s", properties.name);
  out->multiprocessors = properties.multiProcessorCount;
  out->capability = properties.major * 10 + properties.minor;
  int core_khz = 0, memory_khz = 0, bus_bits = 0;
  cudaDeviceGetAttribute(&core_khz, cudaDevAttrClockRate, index);
  cudaDeviceGetAttribute(&memory_khz, cudaDevAttrMemoryClockRate, index);
  cudaDeviceGetAttribute(&bus_bits, cudaDevAttrGlobalMemoryBusWidth, index);
  out->clock_ghz = core_khz / 1e6;
  out->gigabytes_second = 2.0 * memory_khz * (bus_bits / 8) / 1e6;  // two transfers a clock
  out->total_bytes = properties.totalGlobalMem;
  return nullptr;
}

const char* free_bytes(void* stream, size_t* bytes) {
  queue_of(stream);
  size_t total;
  return sentence(cudaMemGetInfo(bytes, &total), "asking for the device's memory");
}

void destroy(Queue* queue) {
  queue->forget_graphs();
  for (cudaEvent_t event : {queue->uploaded, queue->computed})
    if (event) cudaEventDestroy(event);
  for (cudaEvent_t event : queue->marks)
    if (event) cudaEventDestroy(event);
  for (cudaStream_t line : {queue->uploads, queue->kernels, queue->downloads})
    if (line) cudaStreamDestroy(line);
  delete queue;
}

const char* open(int index, void** stream) {
  auto* queue = new (std::nothrow) Queue;
  if (!queue) return "no memory for a stream";
  queue->device = index;
  const char* error = sentence(cudaSetDevice(index), "choosing a CUDA device");
  if (!error) error = sentence(cudaDeviceGetAttribute(&queue->multiprocessors, cudaDevAttrMultiProcessorCount, index), "asking about a CUDA device");
  for (cudaStream_t* line : {&queue->uploads, &queue->kernels, &queue->downloads})
    if (!error) error = sentence(cudaStreamCreateWithFlags(line, cudaStreamNonBlocking), "creating a stream");
  for (cudaEvent_t* event : {&queue->uploaded, &queue->computed})
    if (!error) error = sentence(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "creating an event");
  for (cudaEvent_t& event : queue->marks)
    if (!error) error = sentence(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  if (error) destroy(queue);
  else *stream = queue;
  return error;
}

void close(void* stream) { destroy(&queue_of(stream)); }

const KernelTable* kernels() {
  static const KernelTable table = kernel_table();
  return &table;
}

const char* allocate(void* stream, size_t bytes, void** memory, bool* exhausted) {
  queue_of(stream);
  const cudaError_t error = cudaMalloc(memory, bytes);
  *exhausted = error == cudaErrorMemoryAllocation;
  return sentence(error, "allocating device memory");
}
void release(void* stream, void* memory) {
  queue_of(stream);
  cudaFree(memory);
}
const char* allocate_staging(void* stream, size_t bytes, void** memory, bool* exhausted) {
  queue_of(stream);
  const cudaError_t error = cudaMallocHost(memory, bytes);
  *exhausted = error == cudaErrorMemoryAllocation;
  return sentence(error, "allocating pinned memory");
}
void release_staging(void* stream, void* memory) {
  queue_of(stream);
  cudaFreeHost(memory);
}

/// What is queued in `later` from now on waits for what is in `line` by now.
const char* follow(cudaStream_t line, cudaEvent_t event, cudaStream_t later) {
  const char* const error = sentence(cudaEventRecord(event, line), "recording an event");
  return error ? error : sentence(cudaStreamWaitEvent(later, event, 0), "waiting for an event");
}

const char* upload(void* stream, void* to, const void* from, size_t bytes) {
  Queue& queue = queue_of(stream);
  const char* const error = sentence(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, queue.uploads), "copying to the device");
  return error ? error : follow(queue.uploads, queue.uploaded, queue.kernels);
}
const char* fill(void* stream, void* to, int value, size_t bytes) {
  return sentence(cudaMemsetAsync(to, value, bytes, queue_of(stream).kernels), "filling device memory");
}
const char* download(void* stream, void* to, const void* from, size_t bytes) {
  Queue& queue = queue_of(stream);
  if (const char* error = follow(queue.kernels, queue.computed, queue.downloads)) return error;
  return sentence(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, queue.downloads), "copying from the device");
}
/// Downloads follow kernels and kernels follow uploads, so that the end of the last line is the end of all.
const char* mark(void* stream, uint64_t* mark) {
  Queue& queue = queue_of(stream);
  if (const char* error = follow(queue.kernels, queue.computed, queue.downloads)) return error;
  *mark = queue.next_mark++;
  return sentence(cudaEventRecord(queue.marks[*mark % kMarks], queue.downloads), "recording an event");
}
const char* wait(void* stream, uint64_t mark) {
  return sentence(cudaEventSynchronize(queue_of(stream).marks[mark % kMarks]), "running the kernels");
}

/// Fills the device once; asked for once a kernel.
const char* blocks_of(Queue& queue, const Kernel& kernel, int& blocks) {
  const auto [entry, first_time] = queue.blocks.try_emplace(kernel.entry, 1);
  if (first_time) {
    // Beyond 48 KiB a block, shared memory must be asked for.
    if (kernel.shared_bytes > 48 << 10) {
      const cudaError_t error = cudaFuncSetAttribute(kernel.entry, cudaFuncAttributeMaxDynamicSharedMemorySize, kernel.shared_bytes);
      if (error != cudaSuccess) {
        queue.blocks.erase(entry);
        return sentence(error, kernel.name);
      }
    }
    int resident = 0;
    const cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel.entry, kernel.threads, kernel.shared_bytes);
    if (error != cudaSuccess || resident == 0) {
      queue.blocks.erase(entry);
      return error == cudaSuccess ? "a kernel does not fit this device" : sentence(error, kernel.name);
    }
    entry->second = kernel.one_block ? 1 : resident * queue.multiprocessors;
  }
  blocks = entry->second;
  return nullptr;
}

const char* launch(Queue& queue, const PluginLaunch& launch) {
  const Kernel& kernel = *launch.kernel;
  void* parameters[] = {const_cast<void*>(launch.args)};  // the runtime copies what it points to
  const dim3 blocks(queue.blocks.at(kernel.entry)), threads(kernel.threads);
  return sentence(cudaLaunchKernel(kernel.entry, blocks, threads, parameters, kernel.shared_bytes, queue.kernels), kernel.name);
}

const char* launch_all(Queue& queue, const PluginLaunch* launches, size_t count) {
  for (size_t i = 0; i < count; ++i)
    if (const char* error = launch(queue, launches[i])) return error;
  return nullptr;
}

/// Every kernel of the launches can be launched.
const char* prepare(Queue& queue, const PluginLaunch* launches, size_t count) {
  int blocks;
  for (size_t i = 0; i < count; ++i)
    if (const char* error = blocks_of(queue, *launches[i].kernel, blocks)) return error;
  return nullptr;
}

/// The sequence as a graph, or null where the driver would not have it: then launches are launched one by one for good.
cudaGraphExec_t captured(Queue& queue, const PluginLaunch* launches, size_t count) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  if (cudaStreamBeginCapture(queue.kernels, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
    const char* const error = launch_all(queue, launches, count);
    if (cudaStreamEndCapture(queue.kernels, &graph) == cudaSuccess && !error) cudaGraphInstantiate(&executable, graph, 0);
    if (graph) cudaGraphDestroy(graph);
  }
  cudaGetLastError();
  queue.graphs_work = executable != nullptr;
  return executable;
}

const char* run(void* stream, const PluginLaunch* launches, size_t count, const char* key, size_t key_bytes) {
  Queue& queue = queue_of(stream);
  if (const char* error = prepare(queue, launches, count)) return error;
  if (!key || !queue.graphs_work) return launch_all(queue, launches, count);
  std::string name(key, key_bytes);
  auto found = queue.graphs.find(name);
  if (found == queue.graphs.end()) {
    const cudaGraphExec_t graph = captured(queue, launches, count);
    if (!graph) return launch_all(queue, launches, count);
    if (queue.graphs.size() == kMostGraphs) queue.forget_graphs();
    found = queue.graphs.emplace(std::move(name), graph).first;
  }
  return sentence(cudaGraphLaunch(found->second, queue.kernels), "launching a graph");
}

/// An event before each launch and one after the last, on the device's own clock.
const char* time(void* stream, const PluginLaunch* launches, size_t count, float* milliseconds) {
  Queue& queue = queue_of(stream);
  const char* error = prepare(queue, launches, count);
  std::vector<cudaEvent_t> events;
  for (size_t i = 0; i <= count && !error; ++i) {
    events.push_back(nullptr);
    error = sentence(cudaEventCreate(&events[i]), "creating an event");
    if (!error) error = sentence(cudaEventRecord(events[i], queue.kernels), "recording an event");
    if (!error && i < count) error = launch(queue, launches[i]);
  }
  if (!error) error = sentence(cudaEventSynchronize(events.back()), "running the kernels");
  for (size_t i = 0; i < count && !error; ++i) error = sentence(cudaEventElapsedTime(milliseconds + i, events[i], events[i + 1]), "reading a time");
  for (cudaEvent_t event : events)
    if (event) cudaEventDestroy(event);
  return error;
}

}  // namespace
}  // namespace matryoshka::cuda

extern "C" __attribute__((visibility("default"))) const matryoshka::cuda::Plugin* matryoshka_cuda_plugin() {
  using namespace matryoshka::cuda;
  static const Plugin plugin = {kPluginVersion, CUDART_VERSION, devices, device,  open,  close,    kernels, free_bytes, allocate, release,
                                allocate_staging, release_staging, upload, fill, run, download, mark, wait, time};
  return &plugin;
}
