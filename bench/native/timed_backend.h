// A backend that runs another one's ops and keeps account of their time: clocks around the ops of a real pass, without
// one in the product. An op takes 10 µs and more, reading the clock twice some 40 ns.
#pragma once

#include <array>
#include <atomic>
#include <chrono>

#include "engine/backend.h"

namespace matryoshka::bench {

/// What time is spent on. Everything of the last layer's scoring rows counts as one.
enum class Part : uint8_t { embed, key_value, query, attention, output, up, down, residual, head, scoring };
constexpr std::array<const char*, 10> kParts = {"embed", "key_value", "query", "attention", "output",
                                                "up",    "down",      "residual", "head",   "scoring"};

/// Nanoseconds by part, of all threads together.
using Times = std::array<std::atomic<int64_t>, kParts.size()>;

class TimedOps final : public Ops {
 public:
  TimedOps(Ops& ops, Rows rows, Times& times) : ops_(ops), rows_(rows), times_(times) {}

  void embed() override {
    timed(Part::embed, [&] { ops_.embed(); });
  }
  void gather() override {
    timed(Part::scoring, [&] { ops_.gather(); });
  }
  void linear(int layer, Projection which, Slot in, Slot out) override {
    timed(part_of(which), [&] { ops_.linear(layer, which, in, out); });
  }
  void attention() override {
    timed(Part::attention, [&] { ops_.attention(); });
  }
  void residual(int layer, Site site) override {
    timed(Part::residual, [&] { ops_.residual(layer, site); });
  }
  void head(int exit) override {
    timed(Part::head, [&] { ops_.head(exit); });
  }

 private:
  static Part part_of(Projection which) {
    switch (which) {
      case Projection::key_value: return Part::key_value;
      case Projection::query: return Part::query;
      case Projection::output: return Part::output;
      case Projection::up: return Part::up;
      case Projection::down: break;
    }
    return Part::down;
  }

  template <class F>
  void timed(Part part, const F& op) {
    const auto start = std::chrono::steady_clock::now();
    op();
    const auto taken = std::chrono::steady_clock::now() - start;
    const Part counted = rows_ == Rows::scoring ? Part::scoring : part;
    times_[static_cast<size_t>(counted)] += std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count();
  }

  Ops& ops_;
  const Rows rows_;
  Times& times_;
};

class TimedBackend final : public Backend {
 public:
  explicit TimedBackend(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

  void begin(const TokenBatch& batch, int exits, bool states) override { backend_->begin(batch, exits, states); }
  void run(Rows rows, int steps, const std::function<void(Ops&, int)>& body) override {
    backend_->run(rows, steps, [&](Ops& ops, int step) {
      TimedOps timed(ops, rows, times_);
      body(timed, step);
    });
  }
  void decide(const ExitRule& rule, int exit) override { backend_->decide(rule, exit); }
  void finish(Scores& scores) override { backend_->finish(scores); }
  std::string describe() const override { return backend_->describe(); }

  const Times& times() const { return times_; }

 private:
  std::unique_ptr<Backend> backend_;
  Times times_{};
};

}  // namespace matryoshka::bench
