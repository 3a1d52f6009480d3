// AVX2: codes and weights as 16 bits, multiplied in pairs. Weights are stored as bytes and widened where they are read.
#include "model.h"
#include "team.h"
#include "lanes_avx2.h"
#include "attention_in_pairs.h"
#include "loops_256.h"
#include "packing.h"

namespace {

#define FS_PAIRS(panel, sum) "vpmaddwd " panel ", %%ymm14, %%ymm15\n\tvpaddd %%ymm15, " sum ", " sum "\n\t"
FS_PRODUCT(codes_6x16, FS_WIDENED, 32, FS_PAIRS)
FS_PRODUCT(shorts_6x16, FS_WHOLE, 64, FS_PAIRS)

struct Shorts {
  static FS_INLINE void product(const char* a, size_t stride, int rows, const char* panel, size_t count,
                                const int32_t* start, char* sums, size_t sum_stride) {
    shorts_6x16(a, stride, rows, panel, count, start, sums, sum_stride);
  }
};

struct Avx2 : AttentionInPairs<Shorts> {
  using Code = int16_t;
  using Weight = int8_t;
  static constexpr bool kCallsAhead = false;
  struct Session {
    Session() {}
  };
  static constexpr int kRows = 6, kPanel = 16, kQueryRows = 6, kDepth = 16;

  static FS_INLINE void store_codes(Code* out, const I (&v)[4]) { store_shorts(out, v); }
  static void pack(const int8_t* weight, size_t stride, int depth, Weight* panel, int32_t* start) {
    pack_columns<kPanel, 2>(weight, stride, depth, panel);
    store(start, all(0));
  }
  static void pack_keys(const int8_t* key, int depth, Weight* panel, int32_t* start) {
    pack_rows<kPanel, 2>(key, depth, panel);
    store(start, all(0));
  }
  template <class Side>
  static FS_INLINE void product(const Code* code, size_t stride, int rows, const Weight* panel, int depth,
                                const int32_t* start, int32_t* sums, size_t sum_stride, Side&) {
    codes_6x16(reinterpret_cast<const char*>(code), stride * sizeof(Code), rows, reinterpret_cast<const char*>(panel),
               depth / 2, start, reinterpret_cast<char*>(sums), sum_stride * sizeof(int32_t));
  }
};

}  // namespace

#include "make_path.h"

namespace fastspan {
const Path kAvx2 = make_path<Avx2>("avx2");
}
