// Rows of floats to 8-bit codes, a scale for each row and group of channels.
#pragma once
#include "inlining.h"

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

template <class P>
FS_INLINE void write_codes(const float* x, int n, float centre, float inverse, typename P::Code* out) {
  const F low = all(-127.0f), high = all(127.0f), c = all(centre), by = all(inverse);
  for (int i = 0; i < n; i += 16) {
    // What is no number becomes −127: the comparison takes its second operand then.
    P::store_codes(out + i, round(min(max(mul(sub(load(x + i), c), by), low), high)));
  }
}

template <class P>
void round_group(const float* x, int n, typename P::Code* out, float* scale) {
  F m0 = all(0.0f), m1 = m0, m2 = m0, m3 = m0;
  for (int i = 0; i < n; i += 64) {
    m0 = max(abs(load(x + i)), m0);
    m1 = max(abs(load(x + i + 16)), m1);
    m2 = max(abs(load(x + i + 32)), m2);
    m3 = max(abs(load(x + i + 48)), m3);
  }
  const float most = largest(max(max(m0, m1), max(m2, m3)));
  const bool nothing = most < kSmallest;
  *scale = nothing ? 0.0f : most / 127.0f;
  write_codes<P>(x, n, 0.0f, nothing ? 0.0f : 127.0f / most, out);
}

template <class P>
void round_group_between(const float* x, int n, typename P::Code* out, float* scale, float* centre) {
  F low = load(x), high = low;
  for (int i = 0; i < n; i += 16) {
    const F value = load(x + i);
    low = min(value, low);
    high = max(value, high);
  }
  const float least = -largest(sub(all(0.0f), low)), most = largest(high);
  const float middle = 0.5f * (least + most);
  const float above = most - middle, below = middle - least;
  const float half = above > below ? above : below;
  const bool nothing = !(half >= kSmallest);
  *scale = nothing ? 0.0f : half / 127.0f;
  *centre = middle;
  write_codes<P>(x, n, middle, nothing ? 0.0f : 127.0f / half, out);
}

// One group of one row, as `layer` wants its input.
template <class P>
FS_INLINE void round_one(const Linear& layer, const float* x, const Codes<P>& to, int row, int group) {
  typename P::Code* code = to.code + static_cast<size_t>(row) * to.stride + group * layer.group;
  const size_t at = group * to.rows + row;
  if (layer.asymmetric) {
    round_group_between<P>(x, layer.group, code, to.scale + at, to.centre + at);
  } else {
    round_group<P>(x, layer.group, code, to.scale + at);
  }
}

template <class P>
FS_INLINE void round_row(const Linear& layer, const float* x, const Codes<P>& to, int row) {
  for (int g = 0; g < layer.groups(); ++g) round_one<P>(layer, x + g * layer.group, to, row, g);
}

}  // namespace
