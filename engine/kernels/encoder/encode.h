// The whole stack over packed rows.
#pragma once
#include "arena.h"
#include "attention.h"
#include "elementary.h"
#include "inlining.h"
#include "model.h"
#include "multiply.h"
#include "rounding.h"
#include "run_memory.h"
#include "steps.h"
#include "team.h"

namespace {

template <class P>
class Encoder {
 public:
  Encoder(const Model& m, const Batch& b, Team& team, char* shared, char* own, RunSize run)
      : m_(m), b_(b), team_(team), steps_(team), shared_arena_(shared), own_arena_(own), s_(shared_arena_, m, run),
        own_(own_arena_, m, run) {}

  void run() {
    for (int w = 0; w < b_.windows && !steps_.late(); w += windows_) {
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

  void round_rows(const float* x, int width, const Linear& layer, const Codes<P>& to) {
    steps_.by_rows(rows_, [&](int r) { round_row<P>(layer, x + r * stride_of(width), to, r); });
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
    steps_.by_rows(rows_, [&](int r) {
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
      steps_.by_columns(rows_, P::kRows, m_.hidden, P::kPanel, [&](int column, int columns, int row, int rows) {
        multiply<P>(m_.projection, s_.code, row, rows, column, columns, own_.partial, true, [&](int r, int c, F(&y)[kVectors<P>]) FS_LAMBDA {
          float* to = s_.hidden + r * stride_of(m_.hidden) + c;
          for (int j = 0; j < kVectors<P>; ++j) store(to + 16 * j, y[j]);
        });
      });
      round_rows(s_.hidden, m_.hidden, m_.layer[0].qkv, s_.code);
    }
  }

  void attention(const Linear& qkv) {
    const int unit = unit_columns(m_);
    if (m_.hidden / unit * windows_ >= steps_.threads()) {
      attention_by_heads(qkv, unit);
    } else {
      attention_by_queries(qkv);
    }
  }

  // Query, key and value of some heads, and at once the attention of these heads over some windows.
  void attention_by_heads(const Linear& qkv, int unit) {
    const int units = m_.hidden / unit, size = m_.head_size(), threads = steps_.threads();
    int parts = 1;
    while (parts < windows_ && units * parts % threads != 0 && units * parts < 8 * threads) ++parts;
    const int windows = divided_up(windows_, parts);
    parts = divided_up(windows_, windows);
    steps_.in_tasks(units * parts, [&](int i) {
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
        const float* query = own_.qkv + (b_.ends[w] - first_row_ - row) * stride;
        for (int c = 0; c < unit; c += size) {
          attend_head({query + c, query + c + unit, query + c + 2 * unit, stride}, w, u * unit + c, 0, 1);
        }
      }
    });
  }

  // Where heads are too few for the threads: first query, key and value of all, then the attention of each head and
  // window, of some of its queries at a time.
  void attention_by_queries(const Linear& qkv) {
    const size_t stride = stride_of(3 * m_.hidden);
    steps_.by_columns(rows_, P::kRows, 3 * m_.hidden, P::kPanel, [&](int column, int columns, int row, int rows) {
      multiply<P>(qkv, s_.code, row, rows, column, columns, own_.partial, true, [&](int r, int c, F(&y)[kVectors<P>]) FS_LAMBDA {
        float* to = s_.qkv + r * stride + c;
        for (int j = 0; j < kVectors<P>; ++j) store(to + 16 * j, y[j]);
      });
    });
    int parts = 1;   // each rounds all keys and values again, so that few queries are not worth a part
    while (m_.heads * windows_ * parts < steps_.threads() && parts * 2 * kWidth <= rows_ / windows_) ++parts;
    steps_.in_tasks(m_.heads * windows_ * parts, [&](int i) {
      const int column = i / parts % m_.heads * m_.head_size(), w = first_window_ + i / parts / m_.heads;
      const float* query = s_.qkv + (b_.ends[w] - first_row_) * stride + column;
      attend_head({query, query + m_.hidden, query + 2 * m_.hidden, stride}, w, column, i % parts, parts);
    });
  }

  // Part `part` of `parts` of a window's queries.
  void attend_head(const Projected& from, int window, int column, int part, int parts) {
    const int begin = b_.ends[window] - first_row_, length = b_.ends[window + 1] - b_.ends[window];
    const int queries = round_up(divided_up(length, parts), P::kQueryRows);
    const int first = part * queries, last = smaller(length, first + queries);
    if (first >= last) return;
    attend<P>(from, length, m_.head_size(), first, last, s_.context + begin * stride_of(m_.hidden) + column,
              stride_of(m_.hidden), own_.attention, team_);
  }

  // Adds a product to the residual stream.
  void add_product(const Linear& layer, const Codes<P>& in) {
    steps_.by_columns(rows_, P::kRows, m_.hidden, P::kPanel, [&](int column, int columns, int row, int rows) {
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
    steps_.by_rows(rows_, [&](int r) {
      float* out = s_.hidden + r * stride_of(m_.hidden);
      normalize(out, m_.hidden, norm, m_.epsilon, out);
      round_row<P>(next, out, s_.code, r);
    });
  }

  template <class Act>
  FS_INLINE void intermediate(const Layer& layer, Act act) {
    const int group = layer.output.group;
    if (group > kFusedGroup) {
      steps_.by_columns(rows_, P::kRows, m_.inner, P::kPanel, [&](int column, int columns, int row, int rows) {
        multiply<P>(layer.intermediate, s_.code, row, rows, column, columns, own_.partial, true, [&](int r, int c, F(&y)[kVectors<P>]) FS_LAMBDA {
          float* to = s_.inner + r * stride_of(m_.inner) + c;
          call_row(to, stride_of(m_.inner));
          for (int j = 0; j < kVectors<P>; ++j) store(to + 16 * j, act(y[j]));
        });
      });
      round_rows(s_.inner, m_.inner, layer.output, s_.inner_code);
      return;
    }
    steps_.by_columns(rows_, P::kRows, m_.inner, group, [&](int column, int columns, int row, int rows) {
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
    steps_.by_rows(rows_, [&](int r) {
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
  Steps steps_;
  Arena shared_arena_, own_arena_;
  SharedMemory<P> s_;
  OwnMemory<P> own_;
  int windows_ = 0, first_window_ = 0, first_row_ = 0, rows_ = 0;
};

}  // namespace
