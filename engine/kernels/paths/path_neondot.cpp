// Arm with the dot product: 4 rows by 16 columns, four channels at a time.
#include "model.h"
#include "team.h"
#include "lanes_neon.h"
#include "attention_neon.h"
#include "packing.h"

namespace {

struct NeonDot : NeonAttention {
  using Code = int8_t;
  using Weight = int8_t;
  static constexpr bool kCallsAhead = false;
  struct Session {
    Session() {}
  };
  static constexpr int kRows = 4, kPanel = 16, kQueryRows = 4, kDepth = 16;

  static FS_INLINE void store_codes(Code* out, const I (&v)[4]) { store_bytes(out, v); }
  static void pack(const int8_t* weight, size_t stride, int depth, Weight* panel, int32_t* start) {
    pack_columns<kPanel, 4>(weight, stride, depth, panel);
    store(start, all(0));
  }
  static void pack_keys(const int8_t* key, int depth, Weight* panel, int32_t* start) {
    pack_rows<kPanel, 4>(key, depth, panel);
    store(start, all(0));
  }
  template <int lane>
  static FS_INLINE void quad(const Weight* panel, const int8x16_t (&a)[4], int32x4_t (&sum)[4][4]) {
    for (int i = 0; i < 4; ++i) {
      const int8x16_t b = vld1q_s8(panel + lane * 64 + 16 * i);
      for (int r = 0; r < 4; ++r) sum[r][i] = vdotq_laneq_s32(sum[r][i], b, a[r], lane);
    }
  }
  // Rows behind the last one are computed too: they are memory of the run, and nobody reads their sums.
  template <class Side>
  static FS_INLINE void product(const Code* code, size_t stride, int, const Weight* panel, int depth, const int32_t*,
                                int32_t* sums, size_t sum_stride, Side&) {
    int32x4_t sum[4][4];
    for (auto& row : sum) {
      for (auto& part : row) part = vdupq_n_s32(0);
    }
    for (int k = 0; k < depth; k += 16, panel += 16 * kPanel) {
      int8x16_t a[4];
      for (int r = 0; r < 4; ++r) a[r] = vld1q_s8(code + r * stride + k);
      quad<0>(panel, a, sum);
      quad<1>(panel, a, sum);
      quad<2>(panel, a, sum);
      quad<3>(panel, a, sum);
    }
    for (int r = 0; r < 4; ++r) {
      for (int i = 0; i < 4; ++i) vst1q_s32(sums + r * sum_stride + 4 * i, sum[r][i]);
    }
  }
};

}  // namespace

#include "make_path.h"

namespace fastspan {
const Path kNeonDot = make_path<NeonDot>("neondot");
}
