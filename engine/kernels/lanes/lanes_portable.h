// Sixteen lanes in plain C++: what the lanes of every path mean.
//
// All float arithmetic of the kernels goes through these functions, so it is the same sequence of roundings on
// every path. Sums over lanes have one order: lane i and lane i + 8, then + 4, + 2, + 1.
#pragma once
#include <cmath>
#include <cstring>

#include "inlining.h"

namespace {

struct F {
  float lane[16];
};
struct I {
  int32_t lane[16];
};

template <class Op>
FS_INLINE F each(Op op) {
  F r;
  for (int i = 0; i < 16; ++i) r.lane[i] = op(i);
  return r;
}
template <class Op>
FS_INLINE I each_integer(Op op) {
  I r;
  for (int i = 0; i < 16; ++i) r.lane[i] = op(i);
  return r;
}
// Integers wrap around, as they do in registers.
FS_INLINE int32_t wrapped(uint32_t a) { return static_cast<int32_t>(a); }
FS_INLINE uint32_t plain(int32_t a) { return static_cast<uint32_t>(a); }

FS_INLINE F load(const float* p) { return each([=](int i) { return p[i]; }); }
FS_INLINE void store(float* p, F a) { std::memcpy(p, a.lane, sizeof a); }
FS_INLINE I load(const int32_t* p) { return each_integer([=](int i) { return p[i]; }); }
FS_INLINE void store(int32_t* p, I a) { std::memcpy(p, a.lane, sizeof a); }
FS_INLINE F all(float a) { return each([=](int) { return a; }); }
FS_INLINE I all(int32_t a) { return each_integer([=](int) { return a; }); }
FS_INLINE F add(F a, F b) { return each([&](int i) { return a.lane[i] + b.lane[i]; }); }
FS_INLINE F sub(F a, F b) { return each([&](int i) { return a.lane[i] - b.lane[i]; }); }
FS_INLINE F mul(F a, F b) { return each([&](int i) { return a.lane[i] * b.lane[i]; }); }
FS_INLINE F div(F a, F b) { return each([&](int i) { return a.lane[i] / b.lane[i]; }); }
FS_INLINE F fma(F a, F b, F c) { return each([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); }); }
// The second of the two where either is no number.
FS_INLINE F max(F a, F b) { return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; }); }
FS_INLINE F min(F a, F b) { return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; }); }
FS_INLINE F abs(F a) { return each([&](int i) { return std::fabs(a.lane[i]); }); }
// To the nearest integer, halves to even. Callers keep to ±2²² and give numbers only.
FS_INLINE I round(F a) { return each_integer([&](int i) { return static_cast<int32_t>(std::nearbyintf(a.lane[i])); }); }
FS_INLINE F convert(I a) { return each([&](int i) { return static_cast<float>(a.lane[i]); }); }
FS_INLINE I add(I a, I b) { return each_integer([&](int i) { return wrapped(plain(a.lane[i]) + plain(b.lane[i])); }); }
FS_INLINE I sub(I a, I b) { return each_integer([&](int i) { return wrapped(plain(a.lane[i]) - plain(b.lane[i])); }); }
FS_INLINE I bit_and(I a, I b) { return each_integer([&](int i) { return a.lane[i] & b.lane[i]; }); }
FS_INLINE I bit_or(I a, I b) { return each_integer([&](int i) { return a.lane[i] | b.lane[i]; }); }
template <int n>
FS_INLINE I shift_left(I a) { return each_integer([&](int i) { return wrapped(plain(a.lane[i]) << n); }); }
// Keeps the sign.
template <int n>
FS_INLINE I shift_right(I a) { return each_integer([&](int i) { return a.lane[i] >> n; }); }
FS_INLINE I bits(F a) { I r; std::memcpy(&r, &a, sizeof r); return r; }
FS_INLINE F from_bits(I a) { F r; std::memcpy(&r, &a, sizeof r); return r; }
// The first n lanes of a (n below 16), the others of b.
FS_INLINE F first(int n, F a, F b) { return each([&](int i) { return i < n ? a.lane[i] : b.lane[i]; }); }
// The lowest 8 or 16 bits of each lane.
FS_INLINE void store_bytes(void* p, I a) {
  for (int i = 0; i < 16; ++i) static_cast<uint8_t*>(p)[i] = static_cast<uint8_t>(a.lane[i]);
}
FS_INLINE void store_shorts(void* p, I a) {
  uint16_t shorts[16];
  for (int i = 0; i < 16; ++i) shorts[i] = static_cast<uint16_t>(a.lane[i]);
  std::memcpy(p, shorts, sizeof shorts);
}
// Of four vectors, one behind the other.
FS_INLINE void store_bytes(void* p, const I (&a)[4]) {
  for (int t = 0; t < 4; ++t) store_bytes(static_cast<int8_t*>(p) + 16 * t, a[t]);
}
FS_INLINE void store_shorts(void* p, const I (&a)[4]) {
  for (int t = 0; t < 4; ++t) store_shorts(static_cast<int16_t*>(p) + 16 * t, a[t]);
}
FS_INLINE float sum(F a) {
  for (int step = 8; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) a.lane[i] += a.lane[i + step];
  }
  return a.lane[0];
}
FS_INLINE float largest(F a) {
  for (int step = 8; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) a.lane[i] = a.lane[i] > a.lane[i + step] ? a.lane[i] : a.lane[i + step];
  }
  return a.lane[0];
}
FS_INLINE int32_t sum(I a) {
  int32_t total = 0;
  for (int i = 0; i < 16; ++i) total = wrapped(plain(total) + plain(a.lane[i]));
  return total;
}

}  // namespace
