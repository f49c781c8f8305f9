// The batches under way on one stream, and the memory they live in.
//
// The device computes one batch at a time, so activations exist once. Input, results and their staging memory each batch
// has to itself: while one is computed, the next one's are written and uploaded, and the last one's downloaded and read.
#pragma once

#include <exception>
#include <optional>

#include "cuda/batch_memory.h"

namespace matryoshka::cuda {

/// One batch, from when the host begins to write it down until it has read its results.
struct Flight {
  explicit Flight(Stream& stream) : staging(stream, Place::staging), memory(stream, Place::device) {}

  BatchSizes sizes;
  std::optional<BatchInput> input, staged_input;
  std::optional<BatchResults> results, staged_results;
  LaunchSequence launches;

  // The workspace's own.
  DeviceBuffer staging, memory;
  size_t input_bytes = 0, results_bytes = 0;
  Stream::Mark end = 0;
  bool landed = false;         ///< the host has waited for its end
  std::exception_ptr failure;  ///< … and this is what it heard
};

class Workspace {
 public:
  static constexpr int kFlights = 2;

  Workspace(Stream& stream, const PaddedShape& shape, ElementType type)
      : stream_(stream), shape_(shape), type_(type), memory_(stream, Place::device), flights_{Flight(stream), Flight(stream)} {}
  ~Workspace() { settle(); }  // nothing queued may outlive the memory it works on

  /// A place for a batch of these sizes, its memory laid out; the same one again if the last was not submitted. Throws
  /// ERR_OUT_OF_MEMORY, and is as before for the batches under way.
  Flight& begin(const BatchSizes& sizes);
  const BatchActivations& activations() const { return *activations_; }
  /// Queues the batch begun last: upload, launches, download. If this throws, it is gone and leaves nothing behind.
  void submit();
  /// Waits for the oldest batch under way. Its staging memory is the caller's until the next begin.
  const Flight& finish();

 private:
  void lay_out(Flight& flight, const BatchSizes& layout);
  void check_room(const Flight& flight, size_t io_bytes, size_t activation_bytes, int tokens) const;
  Flight& flight(int i) { return flights_[(first_ + i) % kFlights]; }
  void settle(Flight& flight);
  void settle();
  void abandon(Flight& flight);

  Stream& stream_;
  const PaddedShape shape_;
  const ElementType type_;
  DeviceBuffer memory_;  // activations
  BatchSizes layout_;
  std::optional<BatchActivations> activations_;
  Flight flights_[kFlights];
  int first_ = 0, under_way_ = 0;  // a ring; the batch being written down is the one after those under way
};

}  // namespace matryoshka::cuda
