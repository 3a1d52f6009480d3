// Sixteen lanes in two registers of AVX2. See lanes_portable.h for what each function means.
#pragma once
#include <immintrin.h>

#include "inlining.h"

namespace {

struct F {
  __m256 low, high;
};
struct I {
  __m256i low, high;
};

FS_INLINE F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
FS_INLINE void store(float* p, F a) {
  _mm256_storeu_ps(p, a.low);
  _mm256_storeu_ps(p + 8, a.high);
}
FS_INLINE __m256i load_half(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
FS_INLINE void store_half(int32_t* p, __m256i a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
FS_INLINE I load(const int32_t* p) { return {load_half(p), load_half(p + 8)}; }
FS_INLINE void store(int32_t* p, I a) {
  store_half(p, a.low);
  store_half(p + 8, a.high);
}
FS_INLINE F all(float a) { return {_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
FS_INLINE I all(int32_t a) { return {_mm256_set1_epi32(a), _mm256_set1_epi32(a)}; }
FS_INLINE F add(F a, F b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
FS_INLINE F sub(F a, F b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
FS_INLINE F mul(F a, F b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
FS_INLINE F div(F a, F b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
FS_INLINE F fma(F a, F b, F c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
FS_INLINE F max(F a, F b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
FS_INLINE F min(F a, F b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
FS_INLINE F abs(F a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
FS_INLINE I round(F a) { return {_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)}; }
FS_INLINE F convert(I a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
FS_INLINE I add(I a, I b) { return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }
FS_INLINE I sub(I a, I b) { return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)}; }
FS_INLINE I bit_and(I a, I b) { return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)}; }
FS_INLINE I bit_or(I a, I b) { return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)}; }
template <int n>
FS_INLINE I shift_left(I a) { return {_mm256_slli_epi32(a.low, n), _mm256_slli_epi32(a.high, n)}; }
template <int n>
FS_INLINE I shift_right(I a) { return {_mm256_srai_epi32(a.low, n), _mm256_srai_epi32(a.high, n)}; }
FS_INLINE I bits(F a) { return {_mm256_castps_si256(a.low), _mm256_castps_si256(a.high)}; }
FS_INLINE F from_bits(I a) { return {_mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high)}; }
FS_INLINE F first(int n, F a, F b) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256 low = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
  const __m256 high = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), lane));
  return {_mm256_blendv_ps(b.low, a.low, low), _mm256_blendv_ps(b.high, a.high, high)};
}
// Callers keep to ±32767, so packing with saturation is packing.
FS_INLINE __m256i shorts(I a) {
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(a.low, a.high), _MM_SHUFFLE(3, 1, 2, 0));
}
FS_INLINE void store_shorts(void* p, I a) { _mm256_storeu_si256(static_cast<__m256i*>(p), shorts(a)); }
FS_INLINE __m128i bytes(I a) {
  const __m256i s = shorts(a);
  return _mm_packs_epi16(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}
FS_INLINE void store_bytes(void* p, I a) { _mm_storeu_si128(static_cast<__m128i*>(p), bytes(a)); }
FS_INLINE void store_shorts(void* p, const I (&a)[4]) {
  for (int t = 0; t < 4; ++t) store_shorts(static_cast<int16_t*>(p) + 16 * t, a[t]);
}

FS_INLINE float sum(F a) {
  const __m256 half = _mm256_add_ps(a.low, a.high);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ps(q, _mm_shuffle_ps(q, q, 1)));
}
FS_INLINE float largest(F a) {
  const __m256 half = _mm256_max_ps(a.low, a.high);
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ps(q, _mm_shuffle_ps(q, q, 1)));
}
FS_INLINE int32_t sum(I a) {
  const __m256i half = _mm256_add_epi32(a.low, a.high);
  __m128i q = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  q = _mm_add_epi32(q, _mm_shuffle_epi32(q, _MM_SHUFFLE(1, 0, 3, 2)));
  return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 1)));
}

}  // namespace
