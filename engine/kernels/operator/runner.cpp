#include "runner.h"

#include <algorithm>
#include <utility>

namespace fastspan {
namespace {

constexpr int64_t kMostRows = int64_t{1} << 30;

// What the threads of one run share.
struct Run {
  const Path& path;
  const Model& model;
  const Batch& batch;
  Team team;
  char* shared;
  char* own;
  size_t own_bytes;
  int threads;

  static void enter(void* data, size_t) {
    Run& run = *static_cast<Run*>(data);
    const int number = run.team.join();
    if (number >= run.threads) return;
    run.path.encode(run.model, run.batch, run.team, run.shared, run.own + run.own_bytes * number);
  }
};

size_t steps_of(const Model& m, const Batch& b) {
  size_t together = 0;
  for (int w = 0; w < b.windows; w += windows_together(b.ends, b.windows, w)) ++together;
  return together * (4 + 9 * static_cast<size_t>(m.layers));
}

size_t aligned(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

}  // namespace

int windows_together(const int32_t* ends, int windows, int first) {
  int last = first + 1;
  while (last < windows && ends[last + 1] - ends[first] <= kRowsTogether) ++last;
  return last - first;
}

RunSize size_of_run(const int32_t* ends, int windows) {
  RunSize run;
  for (int w = 0; w < windows;) {
    const int together = windows_together(ends, windows, w);
    run.rows = std::max(run.rows, ends[w + together] - ends[w]);
    for (const int last = w + together; w < last; ++w) run.longest = std::max(run.longest, ends[w + 1] - ends[w]);
  }
  return run;
}

std::string Runner::load(const Attributes& attributes, const std::vector<Tensor>& tensors) {
  return pack_model(path_, attributes, tensors, packed_);
}

std::string Runner::check(const RunInput& in, std::vector<int32_t>& positions) const {
  const Model& m = packed_.model;
  if (in.rows > kMostRows || in.windows < 0 || in.windows > kMostRows) return "there are too many rows or windows";
  if (in.ends[0] != 0 || in.ends[in.windows] != in.rows) {
    return "cumulative_sequence_length must begin with 0 and end with the number of rows";
  }
  for (int64_t w = 0; w < in.windows; ++w) {
    if (in.ends[w + 1] < in.ends[w] || in.ends[w + 1] - in.ends[w] > kLongest || in.ends[w + 1] > in.rows) {
      return "cumulative_sequence_length must not decrease, and a window has at most " + std::to_string(kLongest) + " tokens";
    }
  }
  positions.resize(in.rows);
  for (int64_t w = 0; w < in.windows; ++w) {
    int64_t count = 0;
    for (int32_t row = in.ends[w]; row < in.ends[w + 1]; ++row) {
      int64_t position = row - in.ends[w];
      if (m.padding_id >= 0) position = in.ids[row] == m.padding_id ? m.padding_id : m.padding_id + ++count;
      if (position >= m.positions) return "a window has more tokens than the model has positions";
      positions[row] = static_cast<int32_t>(position);
    }
  }
  for (int64_t row = 0; row < in.rows; ++row) {
    if (in.ids[row] < 0 || in.ids[row] >= m.vocabulary) return "input_ids holds an id outside the vocabulary";
    if (takes_types() && (in.types[row] < 0 || in.types[row] >= m.types)) {
      return "token_type_ids holds an id outside the table";
    }
  }
  return "";
}

std::string Runner::run(const RunInput& in, ParallelFor parallel_for, void* context) {
  std::unique_ptr<Scratch> scratch = borrow();
  std::string problem = check(in, scratch->positions);
  if (problem.empty() && in.rows > 0) {
    const Model& m = packed_.model;
    const int threads = in.thread_limit < threads_ ? in.thread_limit : threads_;
    const Batch batch = {in.ids,  in.types, scratch->positions.data(), in.ends, static_cast<int>(in.windows),
                         in.start_logits, in.end_logits};
    const RunSize size = size_of_run(batch.ends, batch.windows);
    const size_t steps = steps_of(m, batch);
    const size_t step_bytes = aligned(steps * sizeof(Team::Step));
    const size_t shared = aligned(path_.shared_bytes(m, size)), own = aligned(path_.thread_bytes(m, size));
    const size_t bytes = step_bytes + shared + own * static_cast<size_t>(threads);
    if (scratch->memory.size() < bytes) scratch->memory = Memory(bytes);
    char* at = scratch->memory.data();
    if (at == nullptr) return "there is no memory for this run";
    Run run{path_, m, batch, Team(reinterpret_cast<Team::Step*>(at), steps, threads, in.deadline), at + step_bytes,
            at + step_bytes + shared, own, threads};
    if (threads == 1) {
      Run::enter(&run, 0);
    } else if (!parallel_for(context, Run::enter, static_cast<size_t>(threads), &run)) {
      problem = "ONNX Runtime's threads could not be used";
    }
    if (problem.empty() && run.team.late()) problem = "the deadline passed before the run was over";
  }
  give_back(std::move(scratch));
  return problem;
}

std::unique_ptr<Runner::Scratch> Runner::borrow() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (idle_.empty()) return std::make_unique<Scratch>();
  std::unique_ptr<Scratch> scratch = std::move(idle_.back());
  idle_.pop_back();
  return scratch;
}

void Runner::give_back(std::unique_ptr<Scratch> scratch) {
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back(std::move(scratch));
}

}  // namespace fastspan
