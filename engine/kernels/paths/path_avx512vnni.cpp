// AVX-512 with VNNI: 6 rows by 64 columns in 24 registers.
#include "model.h"
#include "team.h"
#include "lanes_avx512.h"
#include "product_avx512vnni.h"

namespace {

struct Avx512Vnni : Vnni512Attention {
  using Code = uint8_t;
  using Weight = int8_t;
  static constexpr bool kCallsAhead = false;
  struct Session {
    Session() {}
  };
  static constexpr int kRows = 6, kPanel = 64, kQueryRows = 6, kDepth = 16;

  // vpdpbusd takes its first operand without sign, so codes carry an offset of 128, which `start` undoes.
  static FS_INLINE void store_codes(Code* out, const I (&v)[4]) {
    _mm512_storeu_si512(out, _mm512_xor_si512(bytes_of(v), _mm512_set1_epi8(static_cast<char>(0x80))));
  }
  static void pack(const int8_t* weight, size_t stride, int depth, Weight* panel, int32_t* start) {
    pack_quads<kPanel>(weight, stride, depth, panel);
    column_sums(panel, depth, start);
  }
  static void pack_keys(const int8_t* key, int depth, Weight* panel, int32_t* start) {
    pack_keys_in_quads<kPanel>(key, depth, panel);
    column_sums(panel, depth, start);
  }
  template <class Side>
  static FS_INLINE void product(const Code* code, size_t stride, int rows, const Weight* panel, int depth, const int32_t* start,
                      int32_t* sums, size_t sum_stride, Side&) {
    product_6x64(code, stride, rows, panel, depth, start, sums, sum_stride);
  }
};

}  // namespace

#include "make_path.h"

namespace fastspan {
const Path kAvx512Vnni = make_path<Avx512Vnni>("avx512vnni");
}
