// The whole stack over packed rows, as steps that a team of threads passes through.
//
// Each step cuts its work into tasks: by panels of columns, so that weights stream once, and by rows where panels
// alone are too few. How it is cut never changes a result: every element is computed by one task, in one order.
#pragma once
#include "arena.h"
#include "attention.h"
#include "elementary.h"
#include "inlining.h"
#include "model.h"
#include "rounding.h"
#include "multiply.h"
#include "team.h"

namespace {

constexpr int kFusedGroup = 1024;   // groups up to this size are rounded where they are produced

FS_INLINE int smaller(int a, int b) { return a < b ? a : b; }
FS_INLINE int larger(int a, int b) { return a > b ? a : b; }
FS_INLINE int divided_up(int a, int b) { return (a + b - 1) / b; }

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
  Codes<P> code;         // of hidden, context
  Codes<P> inner_code;

  SharedMemory(Arena& arena, const Model& m, int rows) {
    const size_t n = static_cast<size_t>(rows);
    hidden = arena.take<float>(n * stride_of(larger(m.hidden, m.width)));
    context = arena.take<float>(n * stride_of(m.hidden));
    inner = arena.take<float>(n * stride_of(m.inner));
    take(arena, larger(m.hidden, m.width), rows, code);
    take(arena, m.inner, rows, inner_code);
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
  float* partial;  // (rows, panel)
  AttentionMemory<P> attention;

  OwnMemory(Arena& arena, const Model& m, int rows)
      : qkv(arena.take<float>(rows * stride_of(3 * unit_columns(m)))),
        tile(arena.take<float>(static_cast<size_t>(P::kRows) * kFusedGroup)),
        partial(arena.take<float>(static_cast<size_t>(rows + P::kRows) * P::kPanel)),
        attention(arena, m.head_size()) {}
};

template <class P>
class Encoder {
 public:
  Encoder(const Model& m, const Batch& b, Team& team, char* shared, char* own, int rows)
      : m_(m), b_(b), team_(team), shared_arena_(shared), own_arena_(own), s_(shared_arena_, m, rows),
        own_(own_arena_, m, rows) {}

  void run() {
    for (int w = 0; w < b_.windows && !team_.late(); w += windows_) {
      windows_ = windows_together(b_.ends, b_.windows, w);
      first_window_ = w;
      first_row_ = b_.ends[w];
      rows_ = b_.ends[w + windows_] - first_row_;
      if (rows_ > 0) together();
    }
  }

 private:
  void together() {
    embed();
    for (int i = 0; i < m_.layers; ++i) {
      const Layer& layer = m_.layer[i];
      attention(layer.qkv);
      round_rows(s_.context, m_.hidden, layer.attention_output, s_.code);
      add_product(layer.attention_output, s_.code);
      normalize_rows(layer.attention_norm, layer.intermediate);
      switch (m_.activation) {
        case Activation::kGelu: intermediate(layer, [](F x) FS_LAMBDA { return gelu(x); }); break;
        case Activation::kGeluTanh: intermediate(layer, [](F x) FS_LAMBDA { return gelu_tanh(x); }); break;
        case Activation::kRelu: intermediate(layer, [](F x) FS_LAMBDA { return relu(x); }); break;
      }
      add_product(layer.output, s_.inner_code);
      if (i + 1 < m_.layers) {
        normalize_rows(layer.output_norm, m_.layer[i + 1].qkv);
      } else {
        answer(layer.output_norm);
      }
    }
  }

  // Runs `task(0)` … `task(tasks − 1)`, each by whichever thread comes first; returns when all are done.
  template <class Task>
  FS_INLINE void step(int tasks, Task task) {
    for (int i = team_.claim(step_); i < tasks; i = team_.claim(step_)) {
      task(i);
      team_.finish(step_);
    }
    team_.wait(step_, tasks);
    ++step_;
  }

  // By rows: a few tasks a thread, of at least 4 rows.
  template <class Task>
  FS_INLINE void by_rows(Task task) {
    const int size = larger(4, divided_up(rows_, 4 * team_.threads()));
    step(divided_up(rows_, size), [&](int i) { 
      const int end = smaller(rows_, (i + 1) * size);
      for (int r = i * size; r < end; ++r) task(r);
    });
  }

  // By columns in multiples of `unit`, and by rows too where that leaves threads idle. Neighbouring columns stay
  // together: their weights follow each other in memory. task(column, columns, row, rows)
  template <class Task>
  FS_INLINE void by_columns(int columns, int unit, Task task) {
    const int threads = team_.threads(), units = columns / unit, most = divided_up(rows_, 32);
    const int width = unit * (threads == 1 ? units : larger(1, units / (3 * threads)));
    const int across = divided_up(columns, width);
    int parts = 1;
    while (parts < most && across * parts % threads != 0 && across * parts < 8 * threads) ++parts;
    const int size = round_up(divided_up(rows_, parts), P::kRows);
    parts = divided_up(rows_, size);
    step(across * parts, [&](int i) {
      const int column = i / parts * width, row = i % parts * size;
      task(column, smaller(width, columns - column), row, smaller(size, rows_ - row));
    });
  }

  void round_rows(const float* x, int width, const Linear& layer, const Codes<P>& to) {
    by_rows([&](int r) { round_row<P>(layer, x + r * stride_of(width), to, r); });
  }

  // A word's embedding: where the table lies, or, of codes, in `room`.
  const float* word_of(int32_t id, float* room) const {
    const size_t at = static_cast<size_t>(id) * m_.width;
    if (m_.words != nullptr) return m_.words + at;
    const int8_t* code = m_.word_codes + at;
    const float scale = m_.word_scales[id];
    for (int c = 0; c < m_.width; ++c) room[c] = static_cast<float>(code[c]) * scale;
    return room;
  }

  void embed() {
    const bool projected = m_.projection.in != 0;
    const Linear& next = projected ? m_.projection : m_.layer[0].qkv;
    by_rows([&](int r) {
      const size_t row = first_row_ + r;
      float* out = s_.hidden + r * stride_of(m_.width);
      const float* word = word_of(b_.ids[row], out);
      const float* position = m_.position_table + static_cast<size_t>(b_.positions[row]) * m_.width;
      for (int c = 0; c < m_.width; c += 16) store(out + c, add(load(word + c), load(position + c)));
      if (m_.segment_table != nullptr) {
        const float* segment = m_.segment_table + static_cast<size_t>(b_.types[row]) * m_.width;
        for (int c = 0; c < m_.width; c += 16) store(out + c, add(load(out + c), load(segment + c)));
      }
      normalize(out, m_.width, m_.embedding_norm, m_.epsilon, out);
      round_row<P>(next, out, s_.code, r);
    });
    if (projected) {
      by_columns(m_.hidden, P::kPanel, [&](int column, int columns, int row, int rows) {
        multiply<P>(m_.projection, s_.code, row, rows, column, columns, own_.partial, true, [&](int r, int c, F(&y)[kVectors<P>]) FS_LAMBDA {
          float* to = s_.hidden + r * stride_of(m_.hidden) + c;
          for (int j = 0; j < kVectors<P>; ++j) store(to + 16 * j, y[j]);
        });
      });
      round_rows(s_.hidden, m_.hidden, m_.layer[0].qkv, s_.code);
    }
  }

  // Query, key and value of some heads, and at once the attention of these heads over some windows.
  void attention(const Linear& qkv) {
    const int unit = unit_columns(m_), units = m_.hidden / unit, size = m_.head_size();
    const int threads = team_.threads();
    int parts = 1;
    while (parts < windows_ && units * parts % threads != 0 && units * parts < 8 * threads) ++parts;
    const int windows = divided_up(windows_, parts);
    parts = divided_up(windows_, windows);
    step(units * parts, [&](int i) {
      const int u = i / parts, first = first_window_ + i % parts * windows;
      const int last = smaller(first_window_ + windows_, first + windows);
      const int row = b_.ends[first] - first_row_, rows = b_.ends[last] - b_.ends[first];
      const size_t stride = stride_of(3 * unit);
      if (rows == 0) return;
      for (int t = 0; t < 3; ++t) {
        const int before = t * m_.hidden + u * unit;
        multiply<P>(qkv, s_.code, row, rows, before, unit, own_.partial, true, [&](int r, int c, F(&y)[kVectors<P>]) FS_LAMBDA {
          float* to = own_.qkv + (r - row) * stride + t * unit + (c - before);
          for (int j = 0; j < kVectors<P>; ++j) store(to + 16 * j, y[j]);
        });
      }
      for (int w = first; w < last; ++w) {
        const int begin = b_.ends[w] - first_row_, length = b_.ends[w + 1] - b_.ends[w];
        if (length == 0) continue;
        for (int c = 0; c < unit; c += size) {
          const float* query = own_.qkv + (begin - row) * stride + c;
          attend<P>(query, query + unit, query + 2 * unit, stride, length, size,
                    s_.context + begin * stride_of(m_.hidden) + u * unit + c, stride_of(m_.hidden), own_.attention);
        }
      }
    });
  }

  // Adds a product to the residual stream.
  void add_product(const Linear& layer, const Codes<P>& in) {
    by_columns(m_.hidden, P::kPanel, [&](int column, int columns, int row, int rows) {
      multiply<P>(layer, in, row, rows, column, columns, own_.partial, true, [&](int r, int c, F(&y)[kVectors<P>]) FS_LAMBDA {
        float* to = s_.hidden + r * stride_of(m_.hidden) + c;
        call_row(to, stride_of(m_.hidden));
        for (int j = 0; j < kVectors<P>; ++j) store(to + 16 * j, add(y[j], load(to + 16 * j)));
      });
    });
  }

  // A panel's columns of a row are too few for the CPU to see where the next row's lie: the next block's are called.
  FS_INLINE void call_row(const float* row, size_t stride) {
    if (!P::kCallsAhead) return;
    const char* at = reinterpret_cast<const char*>(row + P::kRows * stride);
    for (size_t i = 0; i < P::kPanel * sizeof(float); i += 64) __builtin_prefetch(at + i, 1, 3);
  }

  void normalize_rows(const Norm& norm, const Linear& next) {
    by_rows([&](int r) {
      float* out = s_.hidden + r * stride_of(m_.hidden);
      normalize(out, m_.hidden, norm, m_.epsilon, out);
      round_row<P>(next, out, s_.code, r);
    });
  }

  template <class Act>
  FS_INLINE void intermediate(const Layer& layer, Act act) {
    const int group = layer.output.group;
    if (group > kFusedGroup) {
      by_columns(m_.inner, P::kPanel, [&](int column, int columns, int row, int rows) {
        multiply<P>(layer.intermediate, s_.code, row, rows, column, columns, own_.partial, true, [&](int r, int c, F(&y)[kVectors<P>]) FS_LAMBDA {
          float* to = s_.inner + r * stride_of(m_.inner) + c;
          call_row(to, stride_of(m_.inner));
          for (int j = 0; j < kVectors<P>; ++j) store(to + 16 * j, act(y[j]));
        });
      });
      round_rows(s_.inner, m_.inner, layer.output, s_.inner_code);
      return;
    }
    by_columns(m_.inner, group, [&](int column, int columns, int row, int rows) {
      for (int first = column; first < column + columns; first += group) {
        for (int r = row; r < row + rows; r += P::kRows) {
          const int block = smaller(P::kRows, row + rows - r);
          multiply<P>(layer.intermediate, s_.code, r, block, first, group, own_.partial, r == row, [&](int at, int c, F(&y)[kVectors<P>]) FS_LAMBDA {
            float* to = own_.tile + (at - r) * group + (c - first);
            for (int j = 0; j < kVectors<P>; ++j) store(to + 16 * j, act(y[j]));
          });
          for (int i = 0; i < block; ++i) round_one<P>(layer.output, own_.tile + i * group, s_.inner_code, r + i, first / group);
        }
      }
    });
  }

  void answer(const Norm& norm) {
    by_rows([&](int r) {
      float* row = s_.hidden + r * stride_of(m_.hidden);
      normalize(row, m_.hidden, norm, m_.epsilon, row);
      for (int k = 0; k < 2; ++k) {
        const float* weight = m_.head_weight + static_cast<size_t>(k) * m_.hidden;
        float* logits = k == 0 ? b_.start_logits : b_.end_logits;
        logits[first_row_ + r] = sum_of(m_.hidden, [&](int i, F s) FS_LAMBDA {
                                   return fma(load(row + i), load(weight + i), s);
                                 }) + m_.head_bias[k];
      }
    });
  }

  const Model& m_;
  const Batch& b_;
  Team& team_;
  Arena shared_arena_, own_arena_;
  SharedMemory<P> s_;
  OwnMemory<P> own_;
  size_t step_ = 0;
  int windows_ = 0, first_window_ = 0, first_row_ = 0, rows_ = 0;
};

template <class P>
void encode(const Model& m, const Batch& b, Team& team, char* shared, char* own) {
  const typename P::Session session;
  Encoder<P>(m, b, team, shared, own, most_rows_together(b.ends, b.windows)).run();
}

template <class P>
size_t shared_bytes(const Model& m, int rows) {
  Arena arena(nullptr);
  SharedMemory<P>(arena, m, rows);
  return arena.used();
}

template <class P>
size_t thread_bytes(const Model& m, int rows) {
  Arena arena(nullptr);
  OwnMemory<P>(arena, m, rows);
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

template <class P>
constexpr Path make_path(const char* name) {
  return {name,           sizeof(typename P::Code), sizeof(typename P::Weight), pack_weight<P>, shared_bytes<P>,
          thread_bytes<P>, encode<P>};
}

}  // namespace
