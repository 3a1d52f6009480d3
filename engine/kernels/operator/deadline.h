// When a run must be over, and how many threads it may have.
//
// ONNX Runtime ends a run between two operators only, and this operator is a whole encoder; of threads, it gives all
// runs of a session as many. A kernel cannot ask it for the run's options, but it computes on the thread that called
// the session. So the caller leaves both with its own thread, and runs of other threads never see them.
#pragma once
#include <chrono>

namespace fastspan {

using Clock = std::chrono::steady_clock;

constexpr Clock::time_point kNever = Clock::time_point::max();

// Of the runs that this thread calls; kNever: they have none.
Clock::time_point deadline_of_this_thread();

// Threads of the runs that this thread calls, at most.
int thread_limit_of_this_thread();

}  // namespace fastspan
