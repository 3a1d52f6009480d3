// AMX: blocks of 32 rows by 32 columns in four tiles, and AVX-512 for everything else.
#include "model.h"
#include "team.h"
#include "lanes_avx512.h"
#include "packing_avx512.h"
#include "product_amx.h"

namespace {

struct Amx : AmxAttention {
  using Code = int8_t;
  using Weight = int8_t;
  using Session = Tiles;
  static constexpr bool kCallsAhead = true;
  static constexpr int kRows = 32, kPanel = 32, kQueryRows = 16, kDepth = 64;

  static FS_INLINE void store_codes(Code* out, const I (&v)[4]) { store_bytes(out, v); }

  static void pack(const int8_t* weight, size_t stride, int depth, Weight* panel, int32_t* start) {
    pack_quads<kPanel>(weight, stride, depth, panel);
    for (int j = 0; j < kPanel; j += 16) store(start + j, all(0));
  }
  static void pack_keys(const int8_t* key, int depth, Weight* panel, int32_t*) { pack_keys_in_quads<kPanel>(key, depth, panel); }

  template <class Side>
  static FS_INLINE void product(const Code* code, size_t stride, int rows, const Weight* panel, int depth,
                                const int32_t*, int32_t* sums, size_t sum_stride, Side& side) {
    if (rows > 16) {
      product_32x32(code, stride, panel, depth, sums, sum_stride, side);
    } else {
      product_16x32(code, stride, panel, depth, sums, sum_stride, side);
    }
  }
};

}  // namespace

#include "make_path.h"

namespace fastspan {
const Path kAmx = make_path<Amx>("amx");
}
