// VNNI in 256 bits, for CPUs that have it without AVX-512.
#include "model.h"
#include "team.h"
#include "lanes_avx2.h"
#include "attention_in_pairs.h"
#include "loops_256.h"
#include "packing.h"

namespace {

#define FS_QUADS(panel, sum) "%{vex%} vpdpbusd " panel ", %%ymm14, " sum "\n\t"
#define FS_PAIRS(panel, sum) "%{vex%} vpdpwssd " panel ", %%ymm14, " sum "\n\t"
FS_PRODUCT(codes_6x16, FS_WHOLE, 64, FS_QUADS)
FS_PRODUCT(shorts_6x16, FS_WHOLE, 64, FS_PAIRS)

struct Shorts {
  static FS_INLINE void product(const char* a, size_t stride, int rows, const char* panel, size_t count,
                                const int32_t* start, char* sums, size_t sum_stride) {
    shorts_6x16(a, stride, rows, panel, count, start, sums, sum_stride);
  }
};

struct AvxVnni : AttentionInPairs<Shorts> {
  using Code = uint8_t;
  using Weight = int8_t;
  static constexpr bool kCallsAhead = false;
  struct Session {
    Session() {}
  };
  static constexpr int kRows = 6, kPanel = 16, kQueryRows = 6, kDepth = 16;

  // vpdpbusd takes its first operand without sign, so codes carry an offset of 128, which `start` undoes.
  static FS_INLINE void store_codes(Code* out, const I (&v)[4]) {
    for (int t = 0; t < 4; ++t) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out) + t,
                       _mm_xor_si128(bytes(v[t]), _mm_set1_epi8(static_cast<char>(0x80))));
    }
  }
  static void column_sums(const int8_t* panel, int depth, int32_t* start) {
    const __m256i offset = _mm256_set1_epi8(static_cast<char>(0x80)), zero = _mm256_setzero_si256();
    for (int j = 0; j < kPanel; j += 8) {
      __m256i total = zero;
      for (int k = 0; k < depth; k += 4) {
        const void* at = panel + k * kPanel + j * 4;
        total = _mm256_dpbusd_avx_epi32(total, offset, _mm256_loadu_si256(static_cast<const __m256i*>(at)));
      }
      store_half(start + j, _mm256_sub_epi32(zero, total));
    }
  }
  static void pack(const int8_t* weight, size_t stride, int depth, Weight* panel, int32_t* start) {
    pack_columns<kPanel, 4>(weight, stride, depth, panel);
    column_sums(panel, depth, start);
  }
  static void pack_keys(const int8_t* key, int depth, Weight* panel, int32_t* start) {
    pack_rows<kPanel, 4>(key, depth, panel);
    column_sums(panel, depth, start);
  }
  template <class Side>
  static FS_INLINE void product(const Code* code, size_t stride, int rows, const Weight* panel, int depth,
                                const int32_t* start, int32_t* sums, size_t sum_stride, Side&) {
    codes_6x16(reinterpret_cast<const char*>(code), stride, rows, reinterpret_cast<const char*>(panel), depth / 4,
               start, reinterpret_cast<char*>(sums), sum_stride * sizeof(int32_t));
  }
};

}  // namespace

#include "make_path.h"

namespace fastspan {
const Path kAvxVnni = make_path<AvxVnni>("avxvnni");
}
