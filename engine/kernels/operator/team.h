// Threads that pass through the steps of a run together.
//
// ONNX Runtime's pool runs one function on as many of its threads as are free, and promises no more: a thread may
// come late or never. So work is claimed, not assigned. Whoever comes takes the next task of the current step, and at
// a step's end threads wait only for tasks that somebody has claimed and is working on. A run is never stuck, and
// the time between two steps is a few hundred nanoseconds instead of a call of the pool.
//
// A run whose deadline has passed gives out no more tasks, and nobody waits any more: its threads fall through the
// steps that are left.
#pragma once
#include <atomic>
#include <cstddef>

#include "deadline.h"

namespace fastspan {

class Team {
 public:
  // `steps` must hold as many as the run will take; `threads` is how finely work should be cut.
  struct alignas(64) Step {
    std::atomic<int> claimed;
    std::atomic<int> done;
  };
  Team(Step* steps, size_t count, int threads, Clock::time_point deadline);

  int threads() const { return threads_; }
  int join();                             // this thread's number among those that came
  int claim(size_t step);                 // the next task of this step; may lie beyond the last, as all do once late
  void finish(size_t step);               // one claimed task is done
  void wait(size_t step, int tasks);      // until all tasks of this step are done, or the run is late
  bool look_at_clock();                   // whether the run is late; for those who work long on one task
  bool late() const { return late_.load(std::memory_order_relaxed); }   // somebody saw that the deadline had passed

 private:
  Step* steps_;
  int threads_;
  Clock::time_point deadline_;
  std::atomic<int> joined_{0};
  std::atomic<bool> late_{false};
};

}  // namespace fastspan
