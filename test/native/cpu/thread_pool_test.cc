#include "cpu/thread_pool.h"

#include "check.h"

using matryoshka::cpu::ThreadPool;

TEST("every index runs exactly once a call, the caller's being 0, and the call waits for all") {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    CHECK_EQ(pool.threads(), threads);
    for (int round = 0; round < 300; ++round)
      for (int count = 1; count <= threads; ++count) {
        std::vector<std::atomic<int>> runs(count);
        const std::thread::id caller = std::this_thread::get_id();
        std::atomic<bool> zero_is_caller{false};
        pool.run(count, [&](int index) {
          ++runs[index];
          if (index == 0) zero_is_caller = std::this_thread::get_id() == caller;
        });
        for (const std::atomic<int>& n : runs) CHECK_EQ(n.load(), 1);
        CHECK(zero_is_caller);
      }
  }
}

TEST("an exception of any index reaches the caller, and the pool runs on") {
  ThreadPool pool(3);
  for (int thrower = 0; thrower < 3; ++thrower) {
    CHECK_THROWS_CODE(pool.run(3, [&](int index) { if (index == thrower) throw matryoshka::Error("ERR_INTERNAL", "x"); }), "ERR_INTERNAL");
    std::atomic<int> ran{0};
    pool.run(3, [&](int) { ++ran; });
    CHECK_EQ(ran.load(), 3);
  }
}
