#include "simt/memory.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "simt/block.h"
#include "simt/emulator.h"
#include "simt/sanitizers.h"

namespace matryoshka::simt {

bool tracing = false;

namespace {

struct Access {
  uintptr_t address;
  int lane, bytes;
};
using Where = std::tuple<const char*, int, Space>;  // file, line

struct Instruction {
  std::vector<Access> lanes;
};

/// What one warp did at one site: its n-th instruction there, and how often each lane has been.
struct SiteLog {
  std::vector<Instruction> instructions;
  int visits[32] = {};
};

std::map<std::pair<int, Where>, SiteLog> logs;  // by warp and site

/// Distinct 32-byte sectors.
int sectors(const Instruction& instruction) {
  std::vector<uintptr_t> touched;
  for (const Access& a : instruction.lanes)
    for (uintptr_t s = a.address / 32; s <= (a.address + a.bytes - 1) / 32; ++s) touched.push_back(s);
  std::sort(touched.begin(), touched.end());
  return static_cast<int>(std::unique(touched.begin(), touched.end()) - touched.begin());
}

/// Lanes are served in groups whose bytes fill the 32 banks at most; within a group, each further word of a bank costs
/// a wavefront. The same word is broadcast.
void count_wavefronts(const Instruction& instruction) {
  const int bytes = instruction.lanes.front().bytes, group = std::min(32, 128 / std::max(bytes, 4));
  for (int first = 0; first < 32; first += group) {
    std::vector<uintptr_t> words;
    for (const Access& a : instruction.lanes)
      if (a.lane >= first && a.lane < first + group)
        for (uintptr_t w = a.address / 4; w <= (a.address + a.bytes - 1) / 4; ++w) words.push_back(w);
    if (words.empty()) continue;
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    int hits[32] = {};
    for (const uintptr_t w : words) ++hits[w % 32];
    counters.shared_wavefronts += *std::max_element(hits, hits + 32);
    counters.shared_ideal += (words.size() + 31) / 32;
  }
}

}  // namespace

void record_access(Space space, const void* address, int bytes, Site site) {
  const Unwatched unwatched;
  const int warp = position.thread / 32, lane = position.thread % 32;
  SiteLog& log = logs[{warp, {site.file, site.line, space}}];
  const size_t visit = log.visits[lane]++;
  if (visit >= log.instructions.size()) log.instructions.resize(visit + 1);
  log.instructions[visit].lanes.push_back({reinterpret_cast<uintptr_t>(address), lane, bytes});
}

void settle_accesses() {
  const Unwatched unwatched;
  for (const auto& [key, log] : logs) {
    const bool global = std::get<2>(key.second) == Space::global;
    for (const Instruction& instruction : log.instructions) {
      if (!global) {
        count_wavefronts(instruction);
        continue;
      }
      for (const Access& a : instruction.lanes) counters.global_bytes += a.bytes;
      counters.global_sectors += sectors(instruction);
    }
  }
  logs.clear();
}

}  // namespace matryoshka::simt
