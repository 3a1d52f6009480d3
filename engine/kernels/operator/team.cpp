#include "team.h"

#include <sched.h>

#include <climits>

namespace fastspan {
namespace {

constexpr int kSpins = 4000;   // about 100 microseconds; longer than that somebody else needs this core

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Team::Team(Step* steps, size_t count, int threads, Clock::time_point deadline)
    : steps_(steps), threads_(threads), deadline_(deadline) {
  for (size_t i = 0; i < count; ++i) {
    steps[i].claimed.store(0, std::memory_order_relaxed);
    steps[i].done.store(0, std::memory_order_relaxed);
  }
}

int Team::join() { return joined_.fetch_add(1, std::memory_order_relaxed); }

bool Team::look_at_clock() {
  if (!late() && deadline_ != kNever && Clock::now() >= deadline_) late_.store(true, std::memory_order_relaxed);
  return late();
}

int Team::claim(size_t step) {
  return look_at_clock() ? INT_MAX : steps_[step].claimed.fetch_add(1, std::memory_order_relaxed);
}

void Team::finish(size_t step) { steps_[step].done.fetch_add(1, std::memory_order_release); }

void Team::wait(size_t step, int tasks) {
  for (int spins = 0; steps_[step].done.load(std::memory_order_acquire) < tasks && !late(); ++spins) {
    if (spins < kSpins) {
      relax();
    } else {
      sched_yield();
    }
  }
}

}  // namespace fastspan
