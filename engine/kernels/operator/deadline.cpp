#include "deadline.h"

namespace fastspan {
namespace {

thread_local Clock::time_point deadline = kNever;

}  // namespace

Clock::time_point deadline_of_this_thread() { return deadline; }

}  // namespace fastspan

// Ends the runs that this thread calls from now on when so much time has passed. Negative: nothing ends them any more.
extern "C" __attribute__((visibility("default"))) void fastspan_kernels_set_deadline(long long nanoseconds) noexcept {
  using namespace fastspan;
  const auto left = std::chrono::nanoseconds(nanoseconds);
  const auto now = Clock::now();
  deadline = nanoseconds < 0 || left >= kNever - now ? kNever : now + left;
}
