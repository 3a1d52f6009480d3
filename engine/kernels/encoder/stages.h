// Where a run's time goes, counted only in a library that is compiled with FS_STAGES, as the study of the kernels'
// paths does. In any other these are empty.
#pragma once
#include "inlining.h"

namespace fastspan {

// In the order of the study's names. kWaiting: for the last tasks of a step, which others work on. kOther: what no
// other stage has, and a part of what counting costs.
enum Stage { kWaiting, kProducts, kFloats, kAttentionProducts, kSoftmax, kNormalizing, kRounding, kOther, kStages };

#ifdef FS_STAGES

struct StageTicks {
  unsigned long long of[kStages], last;
  int now;
};
extern __thread StageTicks stage_ticks;
void add_stage_ticks();   // of this thread, to those of all

#endif
}  // namespace fastspan

namespace {

#ifdef FS_STAGES

FS_INLINE unsigned long long ticks() {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  unsigned long long t;
  asm volatile("mrs %0, cntvct_el0" : "=r"(t));
  return t;
#endif
}

// What passes while it lives counts for its stage, without the stages inside.
class Counted {
 public:
  FS_INLINE explicit Counted(Stage stage) : outer_(stage_ticks.now) { enter(stage); }
  FS_INLINE ~Counted() { enter(outer_); }

 private:
  FS_INLINE static void enter(int stage) {
    const unsigned long long t = ticks();
    stage_ticks.of[stage_ticks.now] += t - stage_ticks.last;
    stage_ticks.last = t;
    stage_ticks.now = stage;
  }
  const int outer_;
};

// One thread's part of a run.
struct CountedRun {
  FS_INLINE CountedRun() { stage_ticks = {{}, ticks(), kOther}; }
  FS_INLINE ~CountedRun() {
    { const Counted last(kOther); }
    add_stage_ticks();
  }
};

#else

struct Counted {
  FS_INLINE explicit Counted(Stage) {}
};
struct CountedRun {
  FS_INLINE CountedRun() {}
};

#endif

}  // namespace
