// Products of AVX-512 VNNI. The loops are assembly: GCC 12 spills arrays of accumulators, and copies registers
// around the intrinsic.
#pragma once
#include <immintrin.h>

#include "inlining.h"
#include "packing_avx512.h"

namespace {

// −128 · the sum of each column.
inline void column_sums(const int8_t* panel, int depth, int32_t* start) {
  const __m512i offset = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int j = 0; j < 4; ++j) {
    __m512i total = _mm512_setzero_si512();
    for (int k = 0; k < depth; k += 4) {
      total = _mm512_dpbusd_epi32(total, offset, _mm512_loadu_si512(panel + k * 64 + j * 64));
    }
    _mm512_storeu_si512(start + 16 * j, _mm512_sub_epi32(_mm512_setzero_si512(), total));
  }
}

// One row: broadcast four codes, multiply by four registers of the panel.
#define FS_ROW(op, address, c0, c1, c2, c3)      \
  "vpbroadcastd " address ", %%zmm28\n\t"        \
  op " %%zmm24, %%zmm28, %%zmm" #c0 "\n\t"       \
  op " %%zmm25, %%zmm28, %%zmm" #c1 "\n\t"       \
  op " %%zmm26, %%zmm28, %%zmm" #c2 "\n\t"       \
  op " %%zmm27, %%zmm28, %%zmm" #c3 "\n\t"
#define FS_START(c0, c1, c2, c3)                 \
  "vmovdqu64 (%[start]), %%zmm" #c0 "\n\t"       \
  "vmovdqu64 64(%[start]), %%zmm" #c1 "\n\t"     \
  "vmovdqu64 128(%[start]), %%zmm" #c2 "\n\t"    \
  "vmovdqu64 192(%[start]), %%zmm" #c3 "\n\t"
#define FS_STORE(c0, c1, c2, c3)                 \
  "vmovdqu64 %%zmm" #c0 ", (%[sums])\n\t"        \
  "vmovdqu64 %%zmm" #c1 ", 64(%[sums])\n\t"      \
  "vmovdqu64 %%zmm" #c2 ", 128(%[sums])\n\t"     \
  "vmovdqu64 %%zmm" #c3 ", 192(%[sums])\n\t"     \
  "add %[sum_stride], %[sums]\n\t"
#define FS_LOOP(op, starts, rows, stores)                                                                       \
  asm volatile(starts                                                                                           \
               ".p2align 4\n\t"                                                                                 \
               "1:\n\t"                                                                                         \
               "vmovdqu64 (%[panel]), %%zmm24\n\t"                                                              \
               "vmovdqu64 64(%[panel]), %%zmm25\n\t"                                                            \
               "vmovdqu64 128(%[panel]), %%zmm26\n\t"                                                           \
               "vmovdqu64 192(%[panel]), %%zmm27\n\t"                                                           \
               "prefetcht0 2048(%[panel])\n\t"                                                                  \
               "prefetcht0 2112(%[panel])\n\t"                                                                  \
               "prefetcht0 2176(%[panel])\n\t"                                                                  \
               "prefetcht0 2240(%[panel])\n\t" rows                                                             \
               "add $256, %[panel]\n\t"                                                                         \
               "add $4, %[a]\n\t"                                                                               \
               "add $4, %[d]\n\t"                                                                               \
               "dec %[count]\n\t"                                                                               \
               "jnz 1b\n\t" stores                                                                              \
               : [panel] "+r"(panel), [a] "+r"(a), [d] "+r"(d), [count] "+r"(count), [sums] "+r"(sums)          \
               : [stride] "r"(stride), [start] "r"(start), [sum_stride] "r"(sum_stride)                         \
               : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",        \
                 "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18",       \
                 "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28")

#define FS_S0 FS_START(0, 1, 2, 3)
#define FS_S1 FS_S0 FS_START(4, 5, 6, 7)
#define FS_S2 FS_S1 FS_START(8, 9, 10, 11)
#define FS_S3 FS_S2 FS_START(12, 13, 14, 15)
#define FS_S4 FS_S3 FS_START(16, 17, 18, 19)
#define FS_S5 FS_S4 FS_START(20, 21, 22, 23)
#define FS_R0(op) FS_ROW(op, "(%[a])", 0, 1, 2, 3)
#define FS_R1(op) FS_R0(op) FS_ROW(op, "(%[a],%[stride])", 4, 5, 6, 7)
#define FS_R2(op) FS_R1(op) FS_ROW(op, "(%[a],%[stride],2)", 8, 9, 10, 11)
#define FS_R3(op) FS_R2(op) FS_ROW(op, "(%[d])", 12, 13, 14, 15)
#define FS_R4(op) FS_R3(op) FS_ROW(op, "(%[d],%[stride])", 16, 17, 18, 19)
#define FS_R5(op) FS_R4(op) FS_ROW(op, "(%[d],%[stride],2)", 20, 21, 22, 23)
#define FS_W0 FS_STORE(0, 1, 2, 3)
#define FS_W1 FS_W0 FS_STORE(4, 5, 6, 7)
#define FS_W2 FS_W1 FS_STORE(8, 9, 10, 11)
#define FS_W3 FS_W2 FS_STORE(12, 13, 14, 15)
#define FS_W4 FS_W3 FS_STORE(16, 17, 18, 19)
#define FS_W5 FS_W4 FS_STORE(20, 21, 22, 23)

// `count` steps of 256 bytes of the panel and 4 bytes of each row. Strides are in bytes.
#define FS_PRODUCT(name, op)                                                                                    \
  inline void name(const char* a, size_t stride, int rows, const char* panel, size_t count, const int32_t* start, \
                   char* sums, size_t sum_stride) {                                                             \
    const char* d = rows > 3 ? a + 3 * stride : a;                                                              \
    switch (rows) {                                                                                             \
      case 1: FS_LOOP(op, FS_S0, FS_R0(op), FS_W0); break;                                                      \
      case 2: FS_LOOP(op, FS_S1, FS_R1(op), FS_W1); break;                                                      \
      case 3: FS_LOOP(op, FS_S2, FS_R2(op), FS_W2); break;                                                      \
      case 4: FS_LOOP(op, FS_S3, FS_R3(op), FS_W3); break;                                                      \
      case 5: FS_LOOP(op, FS_S4, FS_R4(op), FS_W4); break;                                                      \
      default: FS_LOOP(op, FS_S5, FS_R5(op), FS_W5); break;                                                     \
    }                                                                                                           \
  }

FS_PRODUCT(bytes_6x64, "vpdpbusd")
FS_PRODUCT(shorts_6x64, "vpdpwssd")

// Probabilities by values of half a panel: 32 channels, as small heads have. Sums start from zero.
#define FS_HALF_ROW(address, c0, c1)             \
  "vpbroadcastd " address ", %%zmm14\n\t"        \
  "vpdpwssd %%zmm12, %%zmm14, %%zmm" #c0 "\n\t" \
  "vpdpwssd %%zmm13, %%zmm14, %%zmm" #c1 "\n\t"
#define FS_ZERO(c) "vpxord %%zmm" #c ", %%zmm" #c ", %%zmm" #c "\n\t"
#define FS_HALF_STORE(c0, c1)               \
  "vmovdqu64 %%zmm" #c0 ", (%[sums])\n\t"   \
  "vmovdqu64 %%zmm" #c1 ", 64(%[sums])\n\t" \
  "add $128, %[sums]\n\t"

// All six rows are computed: those behind the last one are memory of the run too, and nobody reads their sums.
inline void shorts_6x32(const char* a, size_t stride, const char* panel, size_t count, int32_t* sums) {
  const char* d = a + 3 * stride;
  asm volatile(FS_ZERO(0) FS_ZERO(1) FS_ZERO(2) FS_ZERO(3) FS_ZERO(4) FS_ZERO(5) FS_ZERO(6) FS_ZERO(7) FS_ZERO(8)
                   FS_ZERO(9) FS_ZERO(10) FS_ZERO(11)
               ".p2align 4\n\t"
               "1:\n\t"
               "vmovdqu64 (%[panel]), %%zmm12\n\t"
               "vmovdqu64 64(%[panel]), %%zmm13\n\t"
               FS_HALF_ROW("(%[a])", 0, 1) FS_HALF_ROW("(%[a],%[stride])", 2, 3)
               FS_HALF_ROW("(%[a],%[stride],2)", 4, 5) FS_HALF_ROW("(%[d])", 6, 7)
               FS_HALF_ROW("(%[d],%[stride])", 8, 9) FS_HALF_ROW("(%[d],%[stride],2)", 10, 11)
               "add $128, %[panel]\n\t"
               "add $4, %[a]\n\t"
               "add $4, %[d]\n\t"
               "dec %[count]\n\t"
               "jnz 1b\n\t"
               FS_HALF_STORE(0, 1) FS_HALF_STORE(2, 3) FS_HALF_STORE(4, 5) FS_HALF_STORE(6, 7) FS_HALF_STORE(8, 9)
                   FS_HALF_STORE(10, 11)
               : [panel] "+r"(panel), [a] "+r"(a), [d] "+r"(d), [count] "+r"(count), [sums] "+r"(sums)
               : [stride] "r"(stride)
               : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                 "xmm11", "xmm12", "xmm13", "xmm14");
}

FS_INLINE void product_6x64(const uint8_t* code, size_t stride, int rows, const int8_t* panel, int depth,
                            const int32_t* start, int32_t* sums, size_t sum_stride) {
  bytes_6x64(reinterpret_cast<const char*>(code), stride, rows, reinterpret_cast<const char*>(panel), depth / 4, start,
             reinterpret_cast<char*>(sums), sum_stride * sizeof(int32_t));
}

// Probabilities by values as int16: probabilities (rows, keys), values (keys / 2, channels, 2) in panels of 64
// channels. The last panel has 32 where that is enough, and is filled up with zeros.
struct Vnni512Attention {
  static constexpr int kValueRows = 2;
  static FS_INLINE int panel_width(int size, int first) { return size - first > 32 ? 64 : 32; }
  static size_t probability_bytes(int keys) { return size_t{6} * keys * 2; }
  static size_t value_bytes(int keys, int size) { return static_cast<size_t>(keys) * ((size + 31) / 32 * 32 + 32) * 2; }
  static FS_INLINE void store_probabilities(char* to, int keys, int row, int key, const I (&p)[4]) {
    // Packing leaves the fours of two vectors alternating: values lie in the same order.
    char* at = to + 2 * (static_cast<size_t>(row) * keys + key);
    _mm512_storeu_si512(at, _mm512_packs_epi32(p[0], p[1]));
    _mm512_storeu_si512(at + 64, _mm512_packs_epi32(p[2], p[3]));
  }
  // Where the pair of keys lies that begins at `key`, as a number of pairs.
  static FS_INLINE int place(int key) { return (key / 32 * 32 + key % 16 / 4 * 8 + key % 32 / 16 * 4 + key % 4) / 2; }
  static FS_INLINE void store_values(char* to, int keys, int size, int key, int channel, const I* v) {
    const int first = channel / 64 * 64, width = panel_width(size, first);
    char* row = to + static_cast<size_t>(first) * keys * 2 + static_cast<size_t>(place(key)) * width * 4;
    const I pair = bit_or(bit_and(v[0], all(0xffff)), shift_left<16>(v[1]));
    _mm512_storeu_si512(row + (channel - first) * 4, pair);
    if (channel + 16 == size) {
      for (int c = channel - first + 16; c < width; c += 16) _mm512_storeu_si512(row + c * 4, all(0));
    }
  }
  static void context(const char* probabilities, int keys, int rows, const char* values, int size, int32_t* out) {
    alignas(64) static const int32_t zeros[64] = {};
    alignas(64) int32_t sums[6 * 64];
    const size_t stride = static_cast<size_t>(keys) * 2, pairs = static_cast<size_t>(keys) / 2;
    for (int c = 0; c < size; c += 64) {
      const int width = panel_width(size, c);
      const char* panel = values + static_cast<size_t>(c) * keys * 2;
      if (width == 32) {
        shorts_6x32(probabilities, stride, panel, pairs, sums);
      } else {
        shorts_6x64(probabilities, stride, rows, panel, pairs, zeros, reinterpret_cast<char*>(sums), 256);
      }
      for (int r = 0; r < rows; ++r) {
        for (int j = c; j < size && j < c + 64; j += 16) store(out + r * size + j, load(sums + r * width + j - c));
      }
    }
  }
};

}  // namespace
