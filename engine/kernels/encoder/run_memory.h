// The memory of a run: what its threads share, and what each has for itself.
#pragma once
#include "arena.h"
#include "attention.h"
#include "inlining.h"
#include "model.h"
#include "multiply.h"
#include "rounding.h"
#include "steps.h"

namespace {

constexpr int kFusedGroup = 1024;   // groups up to this size are rounded where they are produced

// Columns of query, key and value that hold whole heads and whole panels.
inline int unit_columns(const Model& m) {
  int unit = m.head_size();
  while (unit % kWidth != 0) unit += m.head_size();
  return m.hidden % unit == 0 ? unit : m.hidden;
}

// Floats from one row to the next. Rows at whole kilobytes would fall on the same few lines of the cache.
FS_INLINE size_t stride_of(int width) { return static_cast<size_t>(width) + 16; }

template <class P>
struct SharedMemory {
  float* hidden;         // (rows, hidden), the residual stream; first the embeddings
  float* context;        // (rows, hidden)
  float* inner;          // (rows, inner); only where its groups are too large to be rounded at once
  float* qkv;            // (rows, 3 · hidden); only where heads are too few for the threads
  Codes<P> code;         // of hidden, context
  Codes<P> inner_code;

  SharedMemory(Arena& arena, const Model& m, RunSize run) {
    const size_t n = static_cast<size_t>(run.rows);
    hidden = arena.take<float>(n * stride_of(larger(m.hidden, m.width)));
    context = arena.take<float>(n * stride_of(m.hidden));
    inner = arena.take<float>(n * stride_of(m.inner));
    qkv = arena.take<float>(n * stride_of(3 * m.hidden));
    take(arena, larger(m.hidden, m.width), run.rows, code);
    take(arena, m.inner, run.rows, inner_code);
  }

  static void take(Arena& arena, int width, int rows, Codes<P>& codes) {
    const size_t groups = width / kWidth;
    codes.rows = rows + kRowPadding;
    codes.stride = width + 64;
    codes.code = arena.take<typename P::Code>(codes.rows * codes.stride);
    codes.scale = arena.take<float>(codes.rows * groups);
    codes.centre = arena.take<float>(codes.rows * groups);
  }
};

template <class P>
struct OwnMemory {
  float* qkv;      // (rows, 3 · unit)
  float* tile;     // (block rows, group)
  float* partial;  // (rows of kBlocksTogether, panel)
  AttentionMemory<P> attention;

  OwnMemory(Arena& arena, const Model& m, RunSize run)
      : qkv(arena.take<float>(run.rows * stride_of(3 * unit_columns(m)))),
        tile(arena.take<float>(static_cast<size_t>(P::kRows) * kFusedGroup)),
        partial(arena.take<float>(static_cast<size_t>(kBlocksTogether<P>) * P::kRows * P::kPanel)),
        attention(arena, m.head_size(), run.longest) {}
};

}  // namespace
