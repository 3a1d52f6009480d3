// A linear layer: integer products of blocks of rows and panels of 64 columns, and the floats made of them.
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

struct Nothing {
  FS_INLINE void some(int) {}
};

// The floats of one block's sums. A path may make them while its next product runs: a few rows at each step.
template <class P, class Finish>
struct Drain {
  const Linear& layer;
  const Codes<P>& in;
  Finish& finish;
  alignas(64) float partial[P::kRows * kPanel];
  const int32_t* sums = nullptr;
  int row = 0, rows = 0, panel = 0, group = 0, next = 0;

  FS_INLINE void begin(const int32_t* s, int r, int n, int p, int g) {
    sums = s, row = r, rows = n, panel = p, group = g, next = 0;
  }
  FS_INLINE void rest() { some(rows); }
  FS_INLINE void some(int count) {
    const int end = next + count < rows ? next + count : rows;
    for (; next < end; ++next) one(next);
  }
  FS_INLINE void one(int r) {
    const size_t column = static_cast<size_t>(panel) * kPanel;
    const size_t at = static_cast<size_t>(row + r) * in.groups + group;
    const float* scale = layer.scale + static_cast<size_t>(group) * layer.out + column;
    const F by = all(in.scale[at]);
    float* part = partial + r * kPanel;
    F y[4];
    for (int j = 0; j < 4; ++j) {
      const F value = convert(load(sums + r * kPanel + 16 * j));
      const F both = mul(by, load(scale + 16 * j));
      y[j] = group == 0 ? mul(value, both) : fma(value, both, load(part + 16 * j));
    }
    if (layer.asymmetric) {
      const float* centre = layer.centre + static_cast<size_t>(group) * layer.out + column;
      for (int j = 0; j < 4; ++j) y[j] = fma(all(in.centre[at]), load(centre + 16 * j), y[j]);
    }
    if (group + 1 < in.groups) {
      for (int j = 0; j < 4; ++j) store(part + 16 * j, y[j]);
      return;
    }
    for (int j = 0; j < 4; ++j) y[j] = add(y[j], load(layer.bias + column + 16 * j));
    finish(row + r, static_cast<int>(column), y);
  }
};

// Rows [row, row + rows) by panels [panel, panel + panels). finish(row, column, y) gets 64 columns as four F.
template <class P, class Finish>
FS_INLINE void multiply(const Linear& layer, const Codes<P>& in, int row, int rows, int panel, int panels,
                        Finish finish) {
  using Weight = typename P::Weight;
  alignas(64) int32_t sums[2][P::kRows * kPanel];
  Drain<P, Finish> drain{layer, in, finish, {}};
  const size_t group_size = static_cast<size_t>(layer.group) * kPanel;
  int turn = 0;
  for (int p = panel; p < panel + panels; ++p) {
    const Weight* weight = static_cast<const Weight*>(layer.weight) + static_cast<size_t>(p) * layer.in * kPanel;
    for (int r = row; r < row + rows; r += P::kRows) {
      const int block = row + rows - r < P::kRows ? row + rows - r : P::kRows;
      for (int g = 0; g < in.groups; ++g) {
        P::product(in.code + static_cast<size_t>(r) * in.stride + g * layer.group, in.stride, block,
                   weight + g * group_size, layer.group, layer.start + static_cast<size_t>(g) * layer.out + p * kPanel,
                   sums[turn], kPanel, drain);
        drain.rest();
        drain.begin(sums[turn], r, block, p, g);
        turn ^= 1;
      }
    }
  }
  drain.rest();
}

}  // namespace
