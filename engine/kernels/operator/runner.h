// A model made ready for one path, and the memory of its runs.
#pragma once
#include <climits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "deadline.h"
#include "model.h"
#include "team.h"
#include "weights.h"

namespace fastspan {

struct RunInput {
  const int32_t* ids = nullptr;
  const int32_t* types = nullptr;
  const int32_t* ends = nullptr;   // 0, then where each window ends
  int64_t rows = 0, windows = 0;
  float* start_logits = nullptr;
  float* end_logits = nullptr;
  Clock::time_point deadline = kNever;
  int thread_limit = INT_MAX;
};

// Runs body(data, 0) … body(data, threads − 1), some of them at the same time.
using ParallelFor = bool (*)(void* context, void (*body)(void*, size_t), size_t threads, void* data);

class Runner {
 public:
  Runner(const Path& path, int threads) : path_(path), threads_(threads) {}

  // Returns what is wrong, or an empty text.
  std::string load(const Attributes& attributes, const std::vector<Tensor>& tensors);
  // The same, for one run. May be called from many threads at once.
  std::string run(const RunInput& input, ParallelFor parallel_for, void* context);

  bool takes_types() const { return packed_.model.segment_table != nullptr; }

 private:
  // What one run needs. Kept for the next run, one for each run that was ever under way at the same time.
  struct Scratch {
    Memory memory;
    std::vector<int32_t> positions;
  };

  std::string check(const RunInput& input, std::vector<int32_t>& positions) const;
  std::unique_ptr<Scratch> borrow();
  void give_back(std::unique_ptr<Scratch> scratch);

  const Path& path_;
  const int threads_;
  PackedModel packed_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace fastspan
