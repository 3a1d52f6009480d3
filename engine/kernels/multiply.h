// A linear layer: integer products of blocks of rows and panels of columns, and the floats made of them.
//
// Float order of one element, on every path:
//   y = float(sum of group 0) · (row's scale · column's scale)
//   y = fma(float(sum of group g), row's scale · column's scale, y)        for g = 1, 2, …
//   and behind each of these, where asymmetric: y = fma(row's centre, column's centre, y)
//   y = y + bias
#pragma once
#include "inlining.h"
#include "rounding.h"

namespace {

// What a product does at each of its steps where there is nothing else to do.
struct Nothing {
  FS_INLINE void some(int) {}
};

template <class P>
constexpr int kVectors = P::kPanel / 16;

// The floats of one block's sums. A path may make them while its next product runs: a few rows at each step, and
// with them a part of the next panel is called into the cache.
template <class P, class Finish>
class Drain {
 public:
  Drain(const Linear& layer, const Codes<P>& in, float* partial, Finish& finish)
      : layer_(layer), in_(in), partial_(partial), finish_(finish) {}

  // `place` is where among the partial sums this block has its rows.
  FS_INLINE void begin(const int32_t* sums, int row, int rows, int column, int group, int place) {
    const size_t at = static_cast<size_t>(group) * layer_.out + column;
    sums_ = sums, scale_ = layer_.scale + at, bias_ = layer_.bias + column;
    row_scale_ = in_.scale + group * in_.rows + row;
    if (layer_.asymmetric) centre_ = layer_.centre + at, row_centre_ = in_.centre + group * in_.rows + row;
    part_ = partial_ + place * P::kPanel;
    row_ = row, rows_ = rows, column_ = column, next_ = 0;
    first_ = group == 0, last_ = group + 1 == layer_.groups();
  }
  FS_INLINE void call_ahead(const void* from) { ahead_ = static_cast<const char*>(from); }
  FS_INLINE void call_ahead(int lines) { lines_ahead_ = lines; }
  FS_INLINE void rest() { some(rows_); }
  FS_INLINE void some(int count) {
    for (int i = 0; i < lines_ahead_; ++i, ahead_ += 64) __builtin_prefetch(ahead_, 0, 2);
    const int end = next_ + count < rows_ ? next_ + count : rows_;
    if (next_ == end) return;
    if (first_) {
      last_ ? all_of<true, true>(end) : all_of<true, false>(end);
    } else {
      last_ ? all_of<false, true>(end) : all_of<false, false>(end);
    }
  }

 private:
  template <bool first, bool last>
  FS_INLINE void all_of(int end) {
    F scale[kVectors<P>];
    for (int j = 0; j < kVectors<P>; ++j) scale[j] = load(scale_ + 16 * j);
    for (; next_ < end; ++next_) one<first, last>(next_, scale);
  }
  template <bool first, bool last>
  FS_INLINE void one(int r, const F* scale) {
    const F by = all(row_scale_[r]);
    float* part = part_ + r * P::kPanel;
    F y[kVectors<P>];
    for (int j = 0; j < kVectors<P>; ++j) {
      const F value = convert(load(sums_ + r * P::kPanel + 16 * j)), both = mul(by, scale[j]);
      y[j] = first ? mul(value, both) : fma(value, both, load(part + 16 * j));
    }
    if (layer_.asymmetric) {
      for (int j = 0; j < kVectors<P>; ++j) y[j] = fma(all(row_centre_[r]), load(centre_ + 16 * j), y[j]);
    }
    if (last) {
      for (int j = 0; j < kVectors<P>; ++j) y[j] = add(y[j], load(bias_ + 16 * j));
      finish_(row_ + r, column_, y);
    } else {
      for (int j = 0; j < kVectors<P>; ++j) store(part + 16 * j, y[j]);
    }
  }

  const Linear& layer_;
  const Codes<P>& in_;
  float* partial_;
  float* part_ = nullptr;
  Finish& finish_;
  const int32_t* sums_ = nullptr;
  const float *scale_ = nullptr, *bias_ = nullptr, *row_scale_ = nullptr, *centre_ = nullptr, *row_centre_ = nullptr;
  const char* ahead_ = nullptr;
  int lines_ahead_ = 0, row_ = 0, rows_ = 0, column_ = 0, next_ = 0;
  bool first_ = true, last_ = true;
};

// From this size on a group's part of a panel is worth keeping in the first cache while all rows pass by. Below it the
// rows' partial sums would cost more than the panel.
constexpr int kLargeGroup = 512;

// Rows [row, row + rows) by columns [column, column + columns), whole panels. finish(row, column, y) gets a panel's
// columns of one row. `partial` holds rows · panel floats. `ahead`: weights come
// from far, so the next panel is called while this one is multiplied.
template <class P, class Finish>
FS_INLINE void multiply(const Linear& layer, const Codes<P>& in, int row, int rows, int column, int columns,
                        float* partial, bool ahead, Finish finish) {
  using Weight = typename P::Weight;
  alignas(64) int32_t sums[2][P::kRows * P::kPanel];
  Drain<P, Finish> drain(layer, in, partial, finish);
  const int groups = layer.groups(), blocks = (rows + P::kRows - 1) / P::kRows;
  const size_t group_size = static_cast<size_t>(layer.group) * P::kPanel, panel_size = group_size * groups;
  const bool group_by_group = layer.group >= kLargeGroup;
  if (P::kCallsAhead && ahead) {
    const int steps = blocks * (layer.in / 64), lines = static_cast<int>(panel_size * sizeof(Weight) / 64);
    drain.call_ahead((lines + steps - 1) / steps);
  }
  int turn = 0;
  for (int c = column; c < column + columns; c += P::kPanel) {
    const Weight* weight = static_cast<const Weight*>(layer.weight) + static_cast<size_t>(c) * layer.in;
    drain.call_ahead(weight + panel_size);
    const auto block_by_group = [&](int b, int g) FS_LAMBDA {
      const int place = b * P::kRows, r = row + place;
      const int block = rows - place < P::kRows ? rows - place : P::kRows;
      P::product(in.code + static_cast<size_t>(r) * in.stride + g * layer.group, in.stride, block,
                 weight + g * group_size, layer.group, layer.start + static_cast<size_t>(g) * layer.out + c, sums[turn],
                 P::kPanel, drain);
      drain.rest();
      drain.begin(sums[turn], r, block, c, g, place);
      turn ^= 1;
    };
    for (int i = 0; i < blocks * groups; ++i) {
      block_by_group(group_by_group ? i % blocks : i / groups, group_by_group ? i / blocks : i % groups);
    }
  }
  drain.rest();
}

}  // namespace
