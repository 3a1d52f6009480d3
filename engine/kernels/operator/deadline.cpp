#include "deadline.h"

#include <climits>

namespace fastspan {
namespace {

thread_local Clock::time_point deadline = kNever;
thread_local int thread_limit = INT_MAX;

}  // namespace

Clock::time_point deadline_of_this_thread() { return deadline; }

int thread_limit_of_this_thread() { return thread_limit; }

}  // namespace fastspan

// Ends the runs that this thread calls from now on when so much time has passed. Negative: nothing ends them any more.
extern "C" __attribute__((visibility("default"))) void fastspan_kernels_set_deadline(long long nanoseconds) noexcept {
  using namespace fastspan;
  const auto left = std::chrono::nanoseconds(nanoseconds);
  const auto now = Clock::now();
  deadline = nanoseconds < 0 || left >= kNever - now ? kNever : now + left;
}

// Gives the runs that this thread calls from now on so many threads at most. Below 1: as many as the session has.
extern "C" __attribute__((visibility("default"))) void fastspan_kernels_set_thread_limit(long long most) noexcept {
  fastspan::thread_limit = most < 1 || most > INT_MAX ? INT_MAX : static_cast<int>(most);
}
