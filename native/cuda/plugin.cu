// The CUDA object: the kernels as nvcc sees them and the runtime calls that queue them, behind the functions of plugin.h.
#include "cuda/plugin.h"

#include <cuda_runtime.h>

#include <cstdio>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <utility>

#include "cuda/kernels/instances.cuh"

namespace matryoshka::cuda {
namespace {

struct Queue {
  int device = 0;
  int multiprocessors = 0;
  cudaStream_t stream = nullptr;
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
  cudaSetDevice(index);
  return sentence(cudaMemGetInfo(&out->free_bytes, &out->total_bytes), "asking for the device's memory");
}

const char* open(int index, void** stream) {
  auto* queue = new (std::nothrow) Queue;
  if (!queue) return "no memory for a stream";
  queue->device = index;
  const char* error = sentence(cudaSetDevice(index), "choosing a CUDA device");
  if (!error) error = sentence(cudaDeviceGetAttribute(&queue->multiprocessors, cudaDevAttrMultiProcessorCount, index), "asking about a CUDA device");
  if (!error) error = sentence(cudaStreamCreateWithFlags(&queue->stream, cudaStreamNonBlocking), "creating a stream");
  if (error) delete queue;
  else *stream = queue;
  return error;
}

void close(void* stream) {
  Queue& queue = queue_of(stream);
  queue.forget_graphs();
  cudaStreamDestroy(queue.stream);
  delete &queue;
}

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

const char* upload(void* stream, void* to, const void* from, size_t bytes) {
  return sentence(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, queue_of(stream).stream), "copying to the device");
}
const char* fill(void* stream, void* to, int value, size_t bytes) {
  return sentence(cudaMemsetAsync(to, value, bytes, queue_of(stream).stream), "filling device memory");
}
const char* download(void* stream, void* to, const void* from, size_t bytes) {
  return sentence(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, queue_of(stream).stream), "copying from the device");
}
const char* wait(void* stream) { return sentence(cudaStreamSynchronize(queue_of(stream).stream), "running the kernels"); }

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

const char* launch_all(Queue& queue, const PluginLaunch* launches, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const Kernel& kernel = *launches[i].kernel;
    void* parameters[] = {const_cast<void*>(launches[i].args)};  // the runtime copies what it points to
    const dim3 blocks(queue.blocks.at(kernel.entry)), threads(kernel.threads);
    if (const char* error = sentence(cudaLaunchKernel(kernel.entry, blocks, threads, parameters, kernel.shared_bytes, queue.stream), kernel.name)) return error;
  }
  return nullptr;
}

/// The sequence as a graph, or null where the driver would not have it: then launches are launched one by one for good.
cudaGraphExec_t captured(Queue& queue, const PluginLaunch* launches, size_t count) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  if (cudaStreamBeginCapture(queue.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
    const char* const error = launch_all(queue, launches, count);
    if (cudaStreamEndCapture(queue.stream, &graph) == cudaSuccess && !error) cudaGraphInstantiate(&executable, graph, 0);
    if (graph) cudaGraphDestroy(graph);
  }
  cudaGetLastError();
  queue.graphs_work = executable != nullptr;
  return executable;
}

const char* run(void* stream, const PluginLaunch* launches, size_t count, const char* key, size_t key_bytes) {
  Queue& queue = queue_of(stream);
  for (size_t i = 0; i < count; ++i) {
    int blocks;
    if (const char* error = blocks_of(queue, *launches[i].kernel, blocks)) return error;
  }
  if (!queue.graphs_work) return launch_all(queue, launches, count);
  std::string name(key, key_bytes);
  auto found = queue.graphs.find(name);
  if (found == queue.graphs.end()) {
    const cudaGraphExec_t graph = captured(queue, launches, count);
    if (!graph) return launch_all(queue, launches, count);
    if (queue.graphs.size() == kMostGraphs) queue.forget_graphs();
    found = queue.graphs.emplace(std::move(name), graph).first;
  }
  return sentence(cudaGraphLaunch(found->second, queue.stream), "launching a graph");
}

}  // namespace
}  // namespace matryoshka::cuda

extern "C" __attribute__((visibility("default"))) const matryoshka::cuda::Plugin* matryoshka_cuda_plugin() {
  using namespace matryoshka::cuda;
  static const Plugin plugin = {kPluginVersion, CUDART_VERSION, devices, device,  open,  close,    kernels, allocate, release,
                                allocate_staging, release_staging, upload, fill, run, download, wait};
  return &plugin;
}
