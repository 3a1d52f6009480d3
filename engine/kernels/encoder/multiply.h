// A linear layer: integer products of blocks of rows and panels of columns, and the floats made of them.
//
// Float order of one element, on every path:
//   y = bias
//   y = fma(float(sum of group g) · row's scale, column's scale, y)        for g = 0, 1, 2, …
//   and behind each of these, where asymmetric: y = fma(row's centre, column's centre, y)
#pragma once
#include "inlining.h"
#include "rounding.h"
#include "stages.h"

namespace {

// What a product does at each of its steps where there is nothing else to do.
struct Nothing {
  FS_INLINE void call() {}
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
    row_ = row, left_ = rows, column_ = column;
    kind_ = (group == 0 ? kFirst : 0) | (group + 1 == layer_.groups() ? kLast : 0) | (layer_.asymmetric ? kCentred : 0);
  }
  FS_INLINE void call_ahead(const void* from) { ahead_ = static_cast<const char*>(from); }
  FS_INLINE void call_ahead(int lines) { lines_ahead_ = lines; }
  FS_INLINE void rest() { rows(left_); }
  FS_INLINE void call() {
    for (int i = 0; i < lines_ahead_; ++i, ahead_ += 64) __builtin_prefetch(ahead_, 0, 2);
  }
  FS_INLINE void some(int count) { rows(count < left_ ? count : left_); }

 private:
  enum : int { kFirst = 1, kLast = 2, kCentred = 4 };

  FS_INLINE void rows(int count) {
    if (count == 0) return;
    switch (kind_) {
      case 0: return of_kind<0>(count);
      case kFirst: return of_kind<kFirst>(count);
      case kLast: return of_kind<kLast>(count);
      case kFirst | kLast: return of_kind<kFirst | kLast>(count);
      case kCentred: return of_kind<kCentred>(count);
      case kCentred | kFirst: return of_kind<kCentred | kFirst>(count);
      case kCentred | kLast: return of_kind<kCentred | kLast>(count);
      default: return of_kind<kCentred | kFirst | kLast>(count);
    }
  }
  template <int kind>
  FS_INLINE void of_kind(int count) {
    const int32_t* sums = sums_;
    const float *row_scale = row_scale_, *row_centre = row_centre_;
    float* part = part_;
    F scale[kVectors<P>], centre[kVectors<P>], bias[kVectors<P>];
    for (int j = 0; j < kVectors<P>; ++j) {
      scale[j] = load(scale_ + 16 * j);
      if ((kind & kCentred) != 0) centre[j] = load(centre_ + 16 * j);
      if ((kind & kFirst) != 0) bias[j] = load(bias_ + 16 * j);
    }
    for (int r = 0; r < count; ++r) {
      const F by = all(row_scale[r]);
      F y[kVectors<P>];
      for (int j = 0; j < kVectors<P>; ++j) {
        const F before = (kind & kFirst) != 0 ? bias[j] : load(part + 16 * j);
        y[j] = fma(mul(convert(load(sums + 16 * j)), by), scale[j], before);
        if ((kind & kCentred) != 0) y[j] = fma(all(row_centre[r]), centre[j], y[j]);
        if ((kind & kLast) == 0) store(part + 16 * j, y[j]);
      }
      if ((kind & kLast) != 0) finish_(row_ + r, column_, y);
      sums += P::kPanel;
      part += P::kPanel;
    }
    sums_ = sums, part_ = part, row_ += count, left_ -= count;
    row_scale_ += count;
    if ((kind & kCentred) != 0) row_centre_ += count;
  }

  const Linear& layer_;
  const Codes<P>& in_;
  float* partial_;
  Finish& finish_;
  const int32_t* sums_ = nullptr;
  const float *scale_ = nullptr, *bias_ = nullptr, *row_scale_ = nullptr, *centre_ = nullptr, *row_centre_ = nullptr;
  float* part_ = nullptr;
  const char* ahead_ = nullptr;
  int lines_ahead_ = 0, row_ = 0, left_ = 0, column_ = 0, kind_ = 0;
};

// So many blocks of rows pass by a group's part of a panel before the next group's turn: it stays in the first cache, and
// so do their partial sums.
template <class P>
constexpr int kBlocksTogether = 16384 / (P::kRows * P::kPanel * static_cast<int>(sizeof(float)));

// Rows [row, row + rows) by columns [column, column + columns), whole panels. finish(row, column, y) gets a panel's
// columns of one row. `partial` holds kBlocksTogether · block rows · panel floats. `ahead`: weights come
// from far, so the next panel is called while this one is multiplied.
template <class P, class Finish>
FS_INLINE void multiply(const Linear& layer, const Codes<P>& in, int row, int rows, int column, int columns,
                        float* partial, bool ahead, Finish finish) {
  using Weight = typename P::Weight;
  alignas(64) int32_t sums[2][P::kRows * P::kPanel];
  Drain<P, Finish> drain(layer, in, partial, finish);
  const int groups = layer.groups(), blocks = (rows + P::kRows - 1) / P::kRows;
  const size_t group_size = static_cast<size_t>(layer.group) * P::kPanel, panel_size = group_size * groups;
  if (P::kCallsAhead && ahead) {
    const int steps = blocks * (layer.in / 64), lines = static_cast<int>(panel_size * sizeof(Weight) / 64);
    drain.call_ahead((lines + steps - 1) / steps);
  }
  // One block passes by each line once: then a page ahead is far enough, and what is called early fills the first
  // cache's few places for lines that are under way. Of several blocks the first needs the whole panel at once.
  const size_t far = blocks == 1 ? 4096 / sizeof(Weight) : panel_size;
  int turn = 0;
  for (int c = column; c < column + columns; c += P::kPanel) {
    const Weight* weight = static_cast<const Weight*>(layer.weight) + static_cast<size_t>(c) * layer.in;
    drain.call_ahead(weight + far);
    for (int first = 0; first < blocks; first += kBlocksTogether<P>) {
      const int last = first + kBlocksTogether<P> < blocks ? first + kBlocksTogether<P> : blocks;
      for (int g = 0; g < groups; ++g) {
        for (int b = first; b < last; ++b) {
          const int before = b * P::kRows, r = row + before;
          const int block = rows - before < P::kRows ? rows - before : P::kRows;
          {
            const Counted counted(kProducts);
            P::product(in.code + static_cast<size_t>(r) * in.stride + g * layer.group, in.stride, block,
                       weight + g * group_size, layer.group, layer.start + static_cast<size_t>(g) * layer.out + c,
                       sums[turn], P::kPanel, drain);
          }
          const Counted counted(kFloats);
          drain.rest();
          drain.begin(sums[turn], r, block, c, g, (b - first) * P::kRows);
          turn ^= 1;
        }
      }
    }
  }
  const Counted counted(kFloats);
  drain.rest();
}

}  // namespace
