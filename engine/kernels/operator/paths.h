// Which paths this library has, and which this CPU can run.
#pragma once
#include "model.h"

namespace fastspan {

struct Candidate {
  const Path* path;
  bool (*runs_here)();
};

// Fastest first; the portable path, which runs anywhere, is last.
extern const Candidate kCandidates[];
extern const int kCandidateCount;

// The path of this name, or the fastest where `name` is empty; nullptr where there is none or this CPU lacks it.
const Path* find_path(const char* name);

}  // namespace fastspan
