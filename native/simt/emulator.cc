#include "simt/emulator.h"

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "simt/block.h"
#include "simt/copies.h"
#include "simt/fiber.h"
#include "simt/sanitizers.h"

namespace matryoshka::simt {

Options options;
Counters counters;
Position position;

namespace {

constexpr size_t kStackBytes = 64 << 10;
constexpr uint32_t kWholeWarp = 0xffffffffu;

enum class State : uint8_t { ready, at_barrier, at_collective, done };

struct Thread {
  Fiber fiber;
  State state = State::ready;
  std::vector<Copy> copies;    // in flight, oldest first
  std::vector<size_t> groups;  // how many of them each closed group holds, oldest first
  size_t open = 0;             // … and the group that is not closed yet
};

struct Warp {
  uint32_t arrived = 0, exited = 0;
  Collective kind = Collective::sync;
  void* payload[32] = {};
};

/// The one launch that is running.
struct Launch {
  void (*entry)(const void*) = nullptr;
  const void* args = nullptr;
  Fiber host;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<char*> stacks;
  int live = 0, at_barrier = 0, phase = 0;
  // Addresses that stand for points in time: the two phases of the barrier, then a point per warp. Fresh for each
  // block, so that one block's barrier orders nothing of another's.
  char* points = nullptr;
  std::mt19937_64 random;
  std::string error;
};

Launch* running = nullptr;
char before_grid, after_grid;

Thread& self() { return running->threads[position.thread]; }

int next_ready() {
  const int n = static_cast<int>(running->threads.size());
  int at = options.shuffle ? static_cast<int>(running->random() % n) : position.thread + 1;
  for (int tries = 0; tries < n; ++tries, ++at) {
    if (at >= n) at -= n;
    if (running->threads[at].state == State::ready) return at;
  }
  return -1;
}

/// Leaves the running thread for another that is ready, or for the host where the block has ended.
void leave() {
  Fiber& from = self().fiber;
  const int next = next_ready();
  if (next < 0 && running->live > 0) fault("deadlock: not every thread reached the barrier or the collective");
  ++counters.switches;
  if (next < 0) return switch_fiber(from, running->host);
  if (next == position.thread) return;
  position.thread = next;
  switch_fiber(from, running->threads[next].fiber);
}

void fiber_main() {
  fiber_started();
  tsan_acquire(&before_grid);
  running->entry(running->args);
  tsan_release(&after_grid);
  Thread& me = self();
  if (!me.copies.empty()) fault("a thread ended with asynchronous copies in flight");
  me.state = State::done;
  --running->live;
  running->warps[position.thread / 32].exited |= 1u << position.thread % 32;
  leave();
  std::abort();  // nobody enters a thread that is done
}

/// One block from start to end, on the stacks taken last.
void run_block(Launch& launch, int block) {
  tsan_release(&before_grid);
  position.block = block;
  position.thread = 0;
  launch.at_barrier = launch.phase = 0;
  launch.live = static_cast<int>(launch.threads.size());
  for (size_t i = 0; i < launch.threads.size(); ++i) {
    Thread& thread = launch.threads[i];
    thread.fiber = make_fiber(launch.stacks[launch.stacks.size() - launch.threads.size() + i], kStackBytes, fiber_main);
    thread.state = State::ready;
    thread.copies.clear();
    thread.groups.clear();
    thread.open = 0;
  }
  for (Warp& warp : launch.warps) warp = Warp();
  if (options.shuffle) position.thread = static_cast<int>(launch.random() % launch.threads.size());
  switch_fiber(launch.host, launch.threads[position.thread].fiber);
  if (tracing) settle_accesses();
  ++counters.blocks;
}

/// Stacks outlive launches: mapping them anew costs more than a small kernel.
std::vector<char*>& stack_pool() {
  static std::vector<char*> pool;
  return pool;
}

void take_stacks(Launch& launch) {
  for (size_t i = 0; i < launch.threads.size(); ++i) {
    std::vector<char*>& pool = stack_pool();
    if (pool.empty()) pool.push_back(allocate_stack(kStackBytes));
    launch.stacks.push_back(pool.back());
    pool.pop_back();
  }
}

char* filled(size_t bytes, int value) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 128, bytes ? bytes : 1)) throw std::bad_alloc();
  std::memset(memory, value, bytes);
  return static_cast<char*>(memory);
}

}  // namespace

void launch(void (*entry)(const void*), const void* args, int blocks, int threads, size_t shared_bytes) {
  static std::mutex one_at_a_time;
  std::lock_guard lock(one_at_a_time);
  Launch launch;
  launch.entry = entry;
  launch.args = args;
  launch.threads.resize(threads);
  launch.warps.resize(threads / 32);
  launch.random.seed(options.seed + counters.launches++);
  launch.host = host_fiber();
  running = &launch;
  tracing = options.trace;
  position.blocks = blocks;
  position.shared_bytes = shared_bytes;

  // The race detector tells blocks apart by their memory and their fibers, so none may be used twice in a grid.
  std::vector<char*> memory;
  std::vector<Fiber> fibers;
  for (int block = 0; block < blocks && launch.error.empty(); ++block) {
    if (block == 0 || SIMT_TSAN) {
      take_stacks(launch);
      memory.push_back(position.shared = filled(shared_bytes, 0xff));
      memory.push_back(launch.points = filled(2 + launch.warps.size(), 0));
    } else {
      asan_unpoison(position.shared, shared_bytes);
      std::memset(position.shared, 0xff, shared_bytes);  // NaN in every float format
    }
    run_block(launch, block);
    for (Thread& thread : launch.threads) fibers.push_back(thread.fiber);
  }
  tsan_acquire(&after_grid);
  for (Fiber& fiber : fibers) forget(fiber);
  for (char* m : memory) {
    asan_unpoison(m, m == position.shared ? shared_bytes : 0);
    free(m);
  }
  for (char* stack : launch.stacks) {
    if (SIMT_TSAN) free_stack(stack, kStackBytes);
    else stack_pool().push_back(stack);
  }
  running = nullptr;
  if (!launch.error.empty()) throw std::runtime_error(launch.error);
}

void fault(const char* what) {
  running->error = std::string("SIMT emulator: ") + what + " (block " + std::to_string(position.block) + ", thread " +
                   std::to_string(position.thread) + ")";
  switch_fiber(self().fiber, running->host);
  std::abort();
}

uint64_t random_bits() { return running->random(); }

void sync_block() {
  const int phase = running->phase;
  tsan_release(&running->points[phase]);
  if (++running->at_barrier < static_cast<int>(running->threads.size())) {
    self().state = State::at_barrier;
    leave();
  } else {
    running->at_barrier = 0;
    running->phase ^= 1;
    ++counters.barriers;
    for (Thread& thread : running->threads)
      if (thread.state == State::at_barrier) thread.state = State::ready;
    if (options.shuffle) leave();
  }
  tsan_acquire(&running->points[phase]);
}

void sync_warp() {
  char* point = &running->points[2 + position.thread / 32];
  tsan_release(point);
  meet(Collective::sync, nullptr, [](void**) {});
  tsan_acquire(point);
}

void meet(Collective kind, void* payload, void (*combine)(void**)) {
  Warp& warp = running->warps[position.thread / 32];
  if (warp.exited) fault("a warp collective after lanes of the warp have ended");
  if (warp.arrived == 0) warp.kind = kind;
  else if (warp.kind != kind) fault("lanes of one warp met at different collectives");
  warp.payload[position.thread % 32] = payload;
  warp.arrived |= 1u << position.thread % 32;
  if (warp.arrived != kWholeWarp) {
    self().state = State::at_collective;
    return leave();
  }
  ++counters.collectives;
  combine(warp.payload);
  warp.arrived = 0;
  const int first = position.thread / 32 * 32;
  for (int lane = 0; lane < 32; ++lane) running->threads[first + lane].state = State::ready;
  if (options.shuffle) leave();
}

bool issue_copy(const Copy& copy) {
  if (reinterpret_cast<uintptr_t>(copy.to) % 16 || reinterpret_cast<uintptr_t>(copy.from) % 16)
    fault("cp.async with an address that is not a multiple of 16");
  if (copy.to < position.shared || copy.to + 16 > position.shared + position.shared_bytes) fault("cp.async to outside shared memory");
  if (copy.valid) counters.async_bytes += 16;
  const Unwatched unwatched;
  if (options.copies == CopyMode::eager || (options.copies == CopyMode::random && random_bits() % 2)) return true;
  self().copies.push_back(copy);
  ++self().open;
  return false;
}

void close_copy_group() {
  const Unwatched unwatched;
  Thread& me = self();
  me.groups.push_back(me.open);
  me.open = 0;
}

bool next_due_copy(int groups, Copy& copy) {
  const Unwatched unwatched;
  Thread& me = self();
  while (!me.groups.empty() && me.groups.front() == 0) me.groups.erase(me.groups.begin());
  if (me.groups.size() <= static_cast<size_t>(groups)) return false;
  --me.groups.front();
  copy = me.copies.front();
  me.copies.erase(me.copies.begin());
  return true;
}

}  // namespace matryoshka::simt
