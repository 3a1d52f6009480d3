// Sixteen lanes in four registers of NEON. See lanes_portable.h for what each function means.
#pragma once
#include <arm_neon.h>

#include "inlining.h"

namespace {

struct F {
  float32x4_t part[4];
};
struct I {
  int32x4_t part[4];
};

template <class R, class Op>
FS_INLINE R quarters(Op op) {
  return {{op(0), op(1), op(2), op(3)}};
}

FS_INLINE F load(const float* p) { return quarters<F>([=](int i) FS_LAMBDA { return vld1q_f32(p + 4 * i); }); }
FS_INLINE void store(float* p, F a) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.part[i]);
}
FS_INLINE I load(const int32_t* p) { return quarters<I>([=](int i) FS_LAMBDA { return vld1q_s32(p + 4 * i); }); }
FS_INLINE void store(int32_t* p, I a) {
  for (int i = 0; i < 4; ++i) vst1q_s32(p + 4 * i, a.part[i]);
}
FS_INLINE F all(float a) { return quarters<F>([=](int) FS_LAMBDA { return vdupq_n_f32(a); }); }
FS_INLINE I all(int32_t a) { return quarters<I>([=](int) FS_LAMBDA { return vdupq_n_s32(a); }); }
FS_INLINE F add(F a, F b) { return quarters<F>([&](int i) FS_LAMBDA { return vaddq_f32(a.part[i], b.part[i]); }); }
FS_INLINE F sub(F a, F b) { return quarters<F>([&](int i) FS_LAMBDA { return vsubq_f32(a.part[i], b.part[i]); }); }
FS_INLINE F mul(F a, F b) { return quarters<F>([&](int i) FS_LAMBDA { return vmulq_f32(a.part[i], b.part[i]); }); }
FS_INLINE F div(F a, F b) { return quarters<F>([&](int i) FS_LAMBDA { return vdivq_f32(a.part[i], b.part[i]); }); }
FS_INLINE F fma(F a, F b, F c) {
  return quarters<F>([&](int i) FS_LAMBDA { return vfmaq_f32(c.part[i], a.part[i], b.part[i]); });
}
// A comparison and a choice, not vmaxq: the second operand where either is no number.
FS_INLINE F max(F a, F b) {
  return quarters<F>([&](int i) FS_LAMBDA { return vbslq_f32(vcgtq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
}
FS_INLINE F min(F a, F b) {
  return quarters<F>([&](int i) FS_LAMBDA { return vbslq_f32(vcltq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
}
FS_INLINE F abs(F a) { return quarters<F>([&](int i) FS_LAMBDA { return vabsq_f32(a.part[i]); }); }
FS_INLINE I round(F a) { return quarters<I>([&](int i) FS_LAMBDA { return vcvtnq_s32_f32(a.part[i]); }); }
FS_INLINE F convert(I a) { return quarters<F>([&](int i) FS_LAMBDA { return vcvtq_f32_s32(a.part[i]); }); }
FS_INLINE I add(I a, I b) { return quarters<I>([&](int i) FS_LAMBDA { return vaddq_s32(a.part[i], b.part[i]); }); }
FS_INLINE I sub(I a, I b) { return quarters<I>([&](int i) FS_LAMBDA { return vsubq_s32(a.part[i], b.part[i]); }); }
FS_INLINE I bit_and(I a, I b) { return quarters<I>([&](int i) FS_LAMBDA { return vandq_s32(a.part[i], b.part[i]); }); }
FS_INLINE I bit_or(I a, I b) { return quarters<I>([&](int i) FS_LAMBDA { return vorrq_s32(a.part[i], b.part[i]); }); }
template <int n>
FS_INLINE I shift_left(I a) { return quarters<I>([&](int i) FS_LAMBDA { return vshlq_n_s32(a.part[i], n); }); }
template <int n>
FS_INLINE I shift_right(I a) { return quarters<I>([&](int i) FS_LAMBDA { return vshrq_n_s32(a.part[i], n); }); }
FS_INLINE I bits(F a) { return quarters<I>([&](int i) FS_LAMBDA { return vreinterpretq_s32_f32(a.part[i]); }); }
FS_INLINE F from_bits(I a) { return quarters<F>([&](int i) FS_LAMBDA { return vreinterpretq_f32_s32(a.part[i]); }); }
FS_INLINE F first(int n, F a, F b) {
  static const int32_t lane[4] = {0, 1, 2, 3};
  return quarters<F>([&](int i) FS_LAMBDA {
    const uint32x4_t take = vcltq_s32(vld1q_s32(lane), vdupq_n_s32(n - 4 * i));
    return vbslq_f32(take, a.part[i], b.part[i]);
  });
}
FS_INLINE int16x8_t shorts(I a, int half) {
  return vcombine_s16(vmovn_s32(a.part[2 * half]), vmovn_s32(a.part[2 * half + 1]));
}
FS_INLINE void store_shorts(void* p, I a) {
  vst1q_s16(static_cast<int16_t*>(p), shorts(a, 0));
  vst1q_s16(static_cast<int16_t*>(p) + 8, shorts(a, 1));
}
FS_INLINE void store_bytes(void* p, I a) {
  vst1q_s8(static_cast<int8_t*>(p), vcombine_s8(vmovn_s16(shorts(a, 0)), vmovn_s16(shorts(a, 1))));
}
FS_INLINE void store_bytes(void* p, const I (&a)[4]) {
  for (int t = 0; t < 4; ++t) store_bytes(static_cast<int8_t*>(p) + 16 * t, a[t]);
}
FS_INLINE void store_shorts(void* p, const I (&a)[4]) {
  for (int t = 0; t < 4; ++t) store_shorts(static_cast<int16_t*>(p) + 16 * t, a[t]);
}
FS_INLINE float sum(F a) {
  float32x4_t q = vaddq_f32(vaddq_f32(a.part[0], a.part[2]), vaddq_f32(a.part[1], a.part[3]));
  const float32x2_t pair = vadd_f32(vget_low_f32(q), vget_high_f32(q));
  return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
}
FS_INLINE float largest(F a) {
  const float32x4_t q = vmaxq_f32(vmaxq_f32(a.part[0], a.part[2]), vmaxq_f32(a.part[1], a.part[3]));
  return vmaxvq_f32(q);
}
FS_INLINE int32_t sum(I a) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(a.part[0], a.part[1]), vaddq_s32(a.part[2], a.part[3])));
}

}  // namespace
