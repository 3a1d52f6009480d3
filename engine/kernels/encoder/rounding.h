// Rows of floats to 8-bit codes, a scale for each row and group of channels.
#pragma once
#include "inlining.h"
#include "stages.h"

namespace {

// Activations of some rows as a product takes them.
template <class P>
struct Codes {
  typename P::Code* code = nullptr;
  size_t stride = 0;            // of codes
  float* scale = nullptr;       // (groups, rows)
  float* centre = nullptr;      // (groups, rows); read only where the layer is asymmetric
  size_t rows = 0;              // from one group's scales to the next's
};

// Below this a group counts as zero: 127 / largest must stay finite.
constexpr float kSmallest = 1e-30f;

// What is rounded: values as they are, or each times its channel's multiplier.
struct Plain {
  const float* x;
  FS_INLINE F operator()(int i) const { return load(x + i); }
};
struct Scaled {
  const float* x;
  const float* prescale;
  FS_INLINE F operator()(int i) const { return mul(load(x + i), load(prescale + i)); }
};

// A code of what lies within ±127 / by. The largest times 127 / largest is at most half a step more than 127, so only
// what is no number has to be caught: it becomes −127, as the comparison takes its second operand then.
FS_INLINE I code_of(F x, F by) { return round(max(mul(x, by), all(-127.0f))); }

// n is a multiple of 64.
template <class P, class Value>
FS_INLINE void write_codes(Value value, int n, float centre, float inverse, typename P::Code* out) {
  const F c = all(centre), by = all(inverse);
  for (int i = 0; i < n; i += 64) {
    I code[4];
    for (int t = 0; t < 4; ++t) code[t] = code_of(sub(value(i + 16 * t), c), by);
    P::store_codes(out + i, code);
  }
}

template <class P, class Value>
void round_group(Value value, int n, typename P::Code* out, float* scale) {
  F m0 = all(0.0f), m1 = m0, m2 = m0, m3 = m0;
  for (int i = 0; i < n; i += 64) {
    m0 = max(abs(value(i)), m0);
    m1 = max(abs(value(i + 16)), m1);
    m2 = max(abs(value(i + 32)), m2);
    m3 = max(abs(value(i + 48)), m3);
  }
  const float most = largest(max(max(m0, m1), max(m2, m3)));
  const bool nothing = most < kSmallest;
  *scale = nothing ? 0.0f : most / 127.0f;
  write_codes<P>(value, n, 0.0f, nothing ? 0.0f : 127.0f / most, out);
}

template <class P, class Value>
void round_group_between(Value value, int n, typename P::Code* out, float* scale, float* centre) {
  // What is no number counts as neither.
  const F lowest = all(-__builtin_huge_valf()), highest = all(__builtin_huge_valf());
  F n0 = highest, n1 = highest, m0 = lowest, m1 = lowest;
  for (int i = 0; i < n; i += 32) {
    const F v0 = value(i), v1 = value(i + 16);
    m0 = max(v0, m0);
    m1 = max(v1, m1);
    n0 = min(v0, n0);
    n1 = min(v1, n1);
  }
  // The least is the largest of the negated.
  const float least = -largest(sub(all(0.0f), min(n0, n1))), most = largest(max(m0, m1));
  const float middle = 0.5f * (least + most);
  const float above = most - middle, below = middle - least;
  const float half = above > below ? above : below;
  const bool nothing = !(half >= kSmallest);
  *scale = nothing ? 0.0f : half / 127.0f;
  *centre = middle;
  write_codes<P>(value, n, middle, nothing ? 0.0f : 127.0f / half, out);
}

template <class P, class Value>
FS_INLINE void round_value(const Linear& layer, Value value, const Codes<P>& to, int row, int group) {
  typename P::Code* code = to.code + static_cast<size_t>(row) * to.stride + group * layer.group;
  const size_t at = group * to.rows + row;
  if (layer.asymmetric) {
    round_group_between<P>(value, layer.group, code, to.scale + at, to.centre + at);
  } else {
    round_group<P>(value, layer.group, code, to.scale + at);
  }
}

// One group of one row, as `layer` wants its input.
template <class P>
FS_INLINE void round_one(const Linear& layer, const float* x, const Codes<P>& to, int row, int group) {
  const Counted counted(kRounding);
  if (layer.prescale != nullptr) {
    round_value<P>(layer, Scaled{x, layer.prescale + group * layer.group}, to, row, group);
  } else {
    round_value<P>(layer, Plain{x}, to, row, group);
  }
}

template <class P>
FS_INLINE void round_row(const Linear& layer, const float* x, const Codes<P>& to, int row) {
  for (int g = 0; g < layer.groups(); ++g) round_one<P>(layer, x + g * layer.group, to, row, g);
}

}  // namespace
