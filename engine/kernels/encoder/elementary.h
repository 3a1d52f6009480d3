// Exponentials, activations and layer normalization, each in one fixed order of roundings.
#pragma once
#include "inlining.h"
#include "stages.h"

namespace {

// 2^x · s to 3·10⁻⁶ of itself, for −30 ≤ x ≤ 0; anything lower, or no number, counts as −30. The coefficients
// are a minimax fit on ±½, times s.
struct Power {
  float c0, c1, c2, c3, c4;
  explicit Power(float s)
      : c0(0.99999926f * s), c1(0.69312181f * s), c2(0.24024745f * s), c3(0.05591786f * s), c4(0.0095701f * s) {}
  FS_INLINE F operator()(F x) const {
    x = max(x, all(-30.0f));
    const I whole = round(x);
    const F r = sub(x, convert(whole));
    F p = fma(all(c4), r, all(c3));
    p = fma(p, r, all(c2));
    p = fma(p, r, all(c1));
    p = fma(p, r, all(c0));
    return from_bits(add(bits(p), shift_left<23>(whole)));
  }
};

// x · Φ(x) to 5·10⁻⁵: Φ(x) = ½ + x · h(x²), h a minimax polynomial up to 4.4, where Φ is 0 or 1 as far as
// this precision can tell. The next step rounds to 8 bits.
FS_INLINE F gelu(F x) {
  const F c = max(min(x, all(4.4f)), all(-4.4f));
  const F u = mul(c, c);
  F h = all(3.56943052e-11f);
  h = fma(h, u, all(-3.7540504e-09f));
  h = fma(h, u, all(1.74084775e-07f));
  h = fma(h, u, all(-4.72486909e-06f));
  h = fma(h, u, all(8.42930313e-05f));
  h = fma(h, u, all(-0.00105499255f));
  h = fma(h, u, all(0.00964302849f));
  h = fma(h, u, all(-0.0660764277f));
  h = fma(h, u, all(0.3987616f));
  return mul(x, fma(c, h, all(0.5f)));
}

// x / (1 + 2^t), t = −2 log₂e √(2/π) (x + 0.044715 x³): the tanh formula. 2^t is taken of −|t|, where it cannot overflow.
FS_INLINE F gelu_tanh(F x) {
  const Power power(1.0f);
  const F cubic = fma(mul(mul(x, x), x), all(0.044715f), x);
  const F t = mul(cubic, all(2.3022082f));
  const F e = power(sub(all(0.0f), abs(t)));
  const F gate = div(all(1.0f), add(all(1.0f), e));
  const F negative = mul(e, gate);
  // Where x is negative the gate is e / (1 + e): chosen by arithmetic on the sign.
  const F sign = from_bits(bit_or(bit_and(bits(x), all(static_cast<int32_t>(0x80000000u))), bits(all(1.0f))));
  const F is_negative = mul(sub(all(1.0f), sign), all(0.5f));
  return mul(x, fma(is_negative, sub(negative, gate), gate));
}

FS_INLINE F relu(F x) { return max(x, all(0.0f)); }

// Four sums side by side, then lanes. n is a multiple of 64.
template <class Term>
FS_INLINE float sum_of(int n, Term term) {
  F s0 = all(0.0f), s1 = s0, s2 = s0, s3 = s0;
  for (int i = 0; i < n; i += 64) {
    s0 = term(i, s0);
    s1 = term(i + 16, s1);
    s2 = term(i + 32, s2);
    s3 = term(i + 48, s3);
  }
  return sum(add(add(s0, s1), add(s2, s3)));
}

// May write over its input.
inline void normalize(const float* x, int n, const Norm& norm, float epsilon, float* out) {
  const Counted counted(kNormalizing);
  const F mean = all(sum_of(n, [&](int i, F s) FS_LAMBDA { return add(s, load(x + i)); }) / static_cast<float>(n));
  const float variance = sum_of(n, [&](int i, F s) FS_LAMBDA {
                           const F d = sub(load(x + i), mean);
                           return fma(d, d, s);
                         }) / static_cast<float>(n);
  const F by = all(1.0f / __builtin_sqrtf(variance + epsilon));
  for (int i = 0; i < n; i += 16) {
    store(out + i, fma(mul(sub(load(x + i), mean), by), load(norm.weight + i), load(norm.bias + i)));
  }
}

}  // namespace
