// Sixteen lanes in one register of AVX-512. See lanes_portable.h for what each function means.
#pragma once
#include <immintrin.h>

#include "inlining.h"

namespace {

using F = __m512;
using I = __m512i;

FS_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
FS_INLINE void store(float* p, F a) { _mm512_storeu_ps(p, a); }
FS_INLINE I load(const int32_t* p) { return _mm512_loadu_si512(p); }
FS_INLINE void store(int32_t* p, I a) { _mm512_storeu_si512(p, a); }
FS_INLINE F all(float a) { return _mm512_set1_ps(a); }
FS_INLINE I all(int32_t a) { return _mm512_set1_epi32(a); }
FS_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
FS_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
FS_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
FS_INLINE F div(F a, F b) { return _mm512_div_ps(a, b); }
FS_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
FS_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
FS_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
FS_INLINE F abs(F a) { return _mm512_abs_ps(a); }
FS_INLINE I round(F a) { return _mm512_cvtps_epi32(a); }
FS_INLINE F convert(I a) { return _mm512_cvtepi32_ps(a); }
FS_INLINE I add(I a, I b) { return _mm512_add_epi32(a, b); }
FS_INLINE I sub(I a, I b) { return _mm512_sub_epi32(a, b); }
FS_INLINE I bit_and(I a, I b) { return _mm512_and_si512(a, b); }
FS_INLINE I bit_or(I a, I b) { return _mm512_or_si512(a, b); }
template <int n>
FS_INLINE I shift_left(I a) { return _mm512_slli_epi32(a, n); }
template <int n>
FS_INLINE I shift_right(I a) { return _mm512_srai_epi32(a, n); }
FS_INLINE I bits(F a) { return _mm512_castps_si512(a); }
FS_INLINE F from_bits(I a) { return _mm512_castsi512_ps(a); }
FS_INLINE F first(int n, F a, F b) { return _mm512_mask_mov_ps(b, static_cast<__mmask16>((1u << n) - 1), a); }
FS_INLINE void store_bytes(void* p, I a) { _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a)); }
// Packing takes 128 bits at a time, so that the fours of the four vectors alternate; one permutation puts them in order.
FS_INLINE __m512i bytes_of(const I (&a)[4]) {
  const __m512i packed = _mm512_packs_epi16(_mm512_packs_epi32(a[0], a[1]), _mm512_packs_epi32(a[2], a[3]));
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), packed);
}
FS_INLINE void store_bytes(void* p, const I (&a)[4]) { _mm512_storeu_si512(p, bytes_of(a)); }

template <class Op>
FS_INLINE float fold(F a, Op op) {
  const __m256 half = op(_mm512_castps512_ps256(a), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1)));
  __m128 q = op(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  q = op(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(op(q, _mm_shuffle_ps(q, q, 1)));
}
struct Sum {
  FS_INLINE __m256 operator()(__m256 a, __m256 b) const { return _mm256_add_ps(a, b); }
  FS_INLINE __m128 operator()(__m128 a, __m128 b) const { return _mm_add_ps(a, b); }
};
struct Largest {
  FS_INLINE __m256 operator()(__m256 a, __m256 b) const { return _mm256_max_ps(a, b); }
  FS_INLINE __m128 operator()(__m128 a, __m128 b) const { return _mm_max_ps(a, b); }
};
FS_INLINE float sum(F a) { return fold(a, Sum{}); }
FS_INLINE float largest(F a) { return fold(a, Largest{}); }
FS_INLINE int32_t sum(I a) { return _mm512_reduce_add_epi32(a); }

}  // namespace
