// A path, made of what its file says of its instructions: the last thing that such a file includes.
#pragma once
#ifdef FS_STAGES
#include <time.h>
#endif

#include "encode.h"
#include "stages.h"

namespace {

template <class P>
void encode(const Model& m, const Batch& b, Team& team, char* shared, char* own) {
  const CountedRun counted;
  const typename P::Session session;
  Encoder<P>(m, b, team, shared, own, size_of_run(b.ends, b.windows)).run();
}

template <class P>
size_t shared_bytes(const Model& m, RunSize run) {
  Arena arena(nullptr);
  SharedMemory<P>(arena, m, run);
  return arena.used();
}

template <class P>
size_t thread_bytes(const Model& m, RunSize run) {
  Arena arena(nullptr);
  OwnMemory<P>(arena, m, run);
  return arena.used();
}

template <class P>
void pack_weight(const int8_t* weight, int in, int out, int group, void* packed, int32_t* start) {
  for (int column = 0; column < out; column += P::kPanel) {
    for (int k = 0; k < in; k += group) {
      P::pack(weight + static_cast<size_t>(k) * out + column, out, group,
              static_cast<typename P::Weight*>(packed) + static_cast<size_t>(column) * in + static_cast<size_t>(k) * P::kPanel,
              start + static_cast<size_t>(k / group) * out + column);
    }
  }
}

#ifdef FS_STAGES
// What this path's product reaches where nothing waits for memory: one block of rows by one panel, in the first cache.
template <class P>
double product_rate(double seconds) {
  constexpr int depth = 256, turns = 64;
  // Of each thread its own: two that wrote to the same lines would wait for each other.
  alignas(64) typename P::Code code[(P::kRows + kRowPadding) * depth] = {};
  alignas(64) typename P::Weight panel[P::kPanel * depth] = {};
  alignas(64) int32_t sums[P::kRows * P::kPanel], start[P::kPanel] = {};
  const typename P::Session session;
  Nothing nothing;
  // The thread's own time: what else the machine does makes the peak no lower.
  const auto now = [] {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double began = now();
  double spent = 0, products = 0;
  while (spent < seconds) {
    for (int i = 0; i < turns; ++i) P::product(code, depth, P::kRows, panel, depth, start, sums, P::kPanel, nothing);
    products += turns;
    spent = now() - began;
  }
  return products * 2 * P::kRows * P::kPanel * depth / spent;
}
#endif

template <class P>
constexpr Path make_path(const char* name) {
  return {name,           sizeof(typename P::Code), sizeof(typename P::Weight), pack_weight<P>, shared_bytes<P>,
          thread_bytes<P>, encode<P>
#ifdef FS_STAGES
          ,
          product_rate<P>
#endif
  };
}

}  // namespace
