// What the study of the kernels' paths asks a library that was compiled for it.
#ifdef FS_STAGES
#include <atomic>

#include "paths.h"
#include "stages.h"

namespace fastspan {

__thread StageTicks stage_ticks;

static std::atomic<unsigned long long> all_ticks[kStages];

void add_stage_ticks() {
  for (int i = 0; i < kStages; ++i) all_ticks[i] += stage_ticks.of[i];
}

}  // namespace fastspan

#define FS_EXPORT extern "C" __attribute__((visibility("default")))

// Ticks that all threads spent in each stage since the last call.
FS_EXPORT void fastspan_kernels_take_stage_ticks(unsigned long long* to) noexcept {
  for (int i = 0; i < fastspan::kStages; ++i) to[i] = fastspan::all_ticks[i].exchange(0);
}

// Multiplications and additions a second of one thread that multiplies one block over and over, for so many seconds.
FS_EXPORT double fastspan_kernels_product_rate(const char* name, double seconds) noexcept {
  const fastspan::Path* path = fastspan::find_path(name);
  return path == nullptr ? 0 : path->product_rate(seconds);
}
#endif
