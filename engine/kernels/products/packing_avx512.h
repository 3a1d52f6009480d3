// Panels in quads: (depth / 4, columns, 4 channels), as vpdpbusd and the tiles of AMX take them.
#pragma once
#include <immintrin.h>

#include "inlining.h"

namespace {

// Four rows of 16 bytes become 16 quads.
FS_INLINE __m512i interleave(__m128i a, __m128i b, __m128i c, __m128i d) {
  const __m128i ab0 = _mm_unpacklo_epi8(a, b), ab1 = _mm_unpackhi_epi8(a, b);
  const __m128i cd0 = _mm_unpacklo_epi8(c, d), cd1 = _mm_unpackhi_epi8(c, d);
  __m512i quads = _mm512_castsi128_si512(_mm_unpacklo_epi16(ab0, cd0));
  quads = _mm512_inserti32x4(quads, _mm_unpackhi_epi16(ab0, cd0), 1);
  quads = _mm512_inserti32x4(quads, _mm_unpacklo_epi16(ab1, cd1), 2);
  return _mm512_inserti32x4(quads, _mm_unpackhi_epi16(ab1, cd1), 3);
}

template <int columns>
void pack_quads(const int8_t* weight, size_t stride, int depth, int8_t* panel) {
  for (int k = 0; k < depth; k += 4) {
    for (int j = 0; j < columns; j += 16) {
      const int8_t* at = weight + k * stride + j;
      const auto row = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + i * stride)); };
      _mm512_storeu_si512(panel + k * columns + j * 4, interleave(row(0), row(1), row(2), row(3)));
    }
  }
}

// 16 rows of 16 dwords, transposed.
FS_INLINE void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// As many keys as a panel has columns, of `depth` codes each (a multiple of 16), a key a row.
template <int columns>
void pack_keys_in_quads(const int8_t* key, int depth, int8_t* panel) {
  for (int j = 0; j < columns; j += 16) {
    for (int k = 0; k < depth; k += 64) {
      const int part = depth - k < 64 ? depth - k : 64;
      const __mmask64 mask = part == 64 ? ~__mmask64{0} : (__mmask64{1} << part) - 1;
      __m512i rows[16];
      for (int i = 0; i < 16; ++i) rows[i] = _mm512_maskz_loadu_epi8(mask, key + static_cast<size_t>(j + i) * depth + k);
      transpose(rows);
      for (int i = 0; i < part / 4; ++i) _mm512_storeu_si512(panel + (k + 4 * i) * columns + j * 4, rows[i]);
    }
  }
}

}  // namespace
