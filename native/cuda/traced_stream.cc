#include "cuda/traced_stream.h"

#include "cuda/kernels/gemm.cuh"

namespace matryoshka::cuda {
namespace {

std::string name_of(const LaunchSequence& sequence, size_t i) {
  const std::string name = sequence.kernel(i).name;
  if (name.rfind("gemm", 0) != 0) return name;
  const auto& args = *static_cast<const GemmArgs*>(sequence.args(i));
  return "gemm " + std::to_string(args.n) + " x " + std::to_string(args.k);
}

}  // namespace

void* TracedStream::allocate(size_t bytes) {
  trace_.calls.push_back("allocate");
  return stream_->allocate(bytes);
}

void TracedStream::upload(void* to, const void* from, size_t bytes) {
  trace_.calls.push_back("upload");
  stream_->upload(to, from, bytes);
}

void TracedStream::run(const LaunchSequence& sequence) {
  trace_.calls.push_back("run");
  for (size_t i = 0; i < sequence.size(); ++i) trace_.calls.push_back(sequence.kernel(i).name);
  if (!timed_) return stream_->run(sequence);
  trace_.costs = stream_->time(sequence);
  trace_.kernels.clear();
  for (size_t i = 0; i < sequence.size(); ++i) trace_.kernels.push_back(name_of(sequence, i));
}

void TracedStream::download(void* to, const void* from, size_t bytes) {
  trace_.calls.push_back("download");
  stream_->download(to, from, bytes);
}

Stream::Mark TracedStream::mark() {
  trace_.calls.push_back("mark");
  return stream_->mark();
}

void TracedStream::wait(Mark mark) {
  trace_.calls.push_back("wait");
  stream_->wait(mark);
}

}  // namespace matryoshka::cuda
