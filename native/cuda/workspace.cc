#include "cuda/workspace.h"

#include <algorithm>
#include <limits>
#include <string>

#include "model/error.h"

namespace matryoshka::cuda {
namespace {

/// Stays for the driver and for others.
constexpr size_t kSpared = size_t{256} << 20;

}  // namespace

Flight& Workspace::begin(const BatchSizes& sizes) {
  if (under_way_ == 0) first_ = 0;  // who sends one batch at a time needs one place only
  Flight& next = flight(under_way_);
  next.sizes = sizes;
  next.launches.clear();
  next.landed = false;
  next.failure = nullptr;
  // A layout is kept while it holds what comes and is not eight times too large, since all of the input is uploaded.
  const bool wasteful = layout_.tokens > 8 * sizes.tokens;
  try {
    lay_out(next, sizes.roomier(wasteful ? BatchSizes() : layout_));
  } catch (const Error& error) {
    if (error.code() != "ERR_OUT_OF_MEMORY") throw;
    lay_out(next, sizes);  // without the room, it may fit
  }
  return next;
}

void Workspace::lay_out(Flight& flight, const BatchSizes& layout) {
  Carver io(nullptr), inner(nullptr);
  BatchInput(io, layout);
  flight.input_bytes = io.bytes();
  BatchResults(io, layout);
  flight.results_bytes = io.bytes() - flight.input_bytes;
  BatchActivations(inner, layout, shape_, type_);
  check_room(flight, io.bytes(), inner.bytes(), layout.tokens);

  layout_ = BatchSizes();
  flight.staging.reserve(io.bytes());
  flight.memory.reserve(io.bytes());
  if (inner.bytes() > memory_.size()) settle();  // batches under way compute there
  memory_.reserve(inner.bytes());

  Carver host(flight.staging.data()), device(flight.memory.data()), activations(memory_.data());
  flight.staged_input.emplace(host, layout);
  flight.input.emplace(device, layout);
  flight.staged_results.emplace(host, layout);
  flight.results.emplace(device, layout);
  activations_.emplace(activations, layout, shape_, type_);
  layout_ = layout;
}

/// Asks before it takes: what is given up first counts as free.
void Workspace::check_room(const Flight& flight, size_t io_bytes, size_t activation_bytes, int tokens) const {
  if (io_bytes <= flight.memory.size() && activation_bytes <= memory_.size()) return;
  const size_t bytes = io_bytes + activation_bytes, held = flight.memory.size() + memory_.size();
  const size_t free = std::min(stream_.free_bytes(), std::numeric_limits<size_t>::max() / 2) + held;
  const size_t room = free > kSpared ? free - kSpared : 0;
  if (bytes <= room) return;
  const auto mebibytes = [](size_t n) { return std::to_string(n >> 20) + " MiB"; };
  throw Error("ERR_OUT_OF_MEMORY", "Expected " + mebibytes(bytes) + " for a batch of " + std::to_string(tokens) + " tokens but " + stream_.describe() +
                                       " has " + mebibytes(room) + " to give, enough for about " +
                                       std::to_string(static_cast<long>(static_cast<double>(tokens) * room / bytes)) +
                                       "; send fewer or shorter documents at a time");
}

void Workspace::submit() {
  Flight& next = flight(under_way_);
  const BatchResults& results = *next.results;
  try {
    stream_.upload(next.memory.data(), next.staging.data(), next.input_bytes);
    stream_.fill(results.logits, 0xff, reinterpret_cast<char*>(results.exit_layers) - reinterpret_cast<char*>(results.logits));  // NaN
    stream_.fill(results.exit_layers, 0, next.sizes.sequences);
    stream_.run(next.launches);
    stream_.download(next.staged_results->logits, results.logits, next.results_bytes);
    next.end = stream_.mark();
  } catch (...) {
    abandon(next);
    throw;
  }
  ++under_way_;
}

/// What has been queued of it still uses its memory. Those before it are heard first, each for itself.
void Workspace::abandon(Flight& flight) {
  settle();
  try {
    flight.end = stream_.mark();
    settle(flight);
  } catch (const Error&) {
    // A device that has failed runs nothing any more.
  }
}

const Flight& Workspace::finish() {
  Flight& oldest = flight(0);
  first_ = (first_ + 1) % kFlights;
  --under_way_;
  settle(oldest);
  if (oldest.failure) std::rethrow_exception(oldest.failure);
  return oldest;
}

/// Waits, and keeps what it hears: it concerns that batch alone.
void Workspace::settle(Flight& flight) {
  if (flight.landed) return;
  flight.landed = true;
  try {
    stream_.wait(flight.end);
  } catch (...) {
    flight.failure = std::current_exception();
  }
}

void Workspace::settle() {
  for (int i = 0; i < under_way_; ++i) settle(flight(i));
}

}  // namespace matryoshka::cuda
