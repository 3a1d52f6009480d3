// Arm with 8-bit matrix products: two rows by two columns by eight channels an instruction.
#include "model.h"
#include "team.h"
#include "lanes_neon.h"
#include "attention_neon.h"
#include "packing.h"

namespace {

struct NeonI8mm : NeonAttention {
  using Code = int8_t;
  using Weight = int8_t;
  static constexpr bool kCallsAhead = false;
  struct Session {
    Session() {}
  };
  static constexpr int kRows = 4, kPanel = 16, kQueryRows = 4, kDepth = 16;

  static FS_INLINE void store_codes(Code* out, const I (&v)[4]) { store_bytes(out, v); }
  static void pack(const int8_t* weight, size_t stride, int depth, Weight* panel, int32_t* start) {
    pack_columns<kPanel, 8>(weight, stride, depth, panel);
    store(start, all(0));
  }
  static void pack_keys(const int8_t* key, int depth, Weight* panel, int32_t* start) {
    pack_rows<kPanel, 8>(key, depth, panel);
    store(start, all(0));
  }
  // Rows behind the last one are computed too: they are memory of the run, and nobody reads their sums.
  template <class Side>
  static FS_INLINE void product(const Code* code, size_t stride, int, const Weight* panel, int depth, const int32_t*,
                                int32_t* sums, size_t sum_stride, Side&) {
    int32x4_t sum[2][8];   // of two rows by two columns each: (row, column), (row, column + 1), (row + 1, …), …
    for (auto& rows : sum) {
      for (auto& part : rows) part = vdupq_n_s32(0);
    }
    for (int k = 0; k < depth; k += 8, panel += 8 * kPanel) {
      int8x16_t a[2];
      for (int r = 0; r < 2; ++r) {
        a[r] = vcombine_s8(vld1_s8(code + 2 * r * stride + k), vld1_s8(code + (2 * r + 1) * stride + k));
      }
      for (int i = 0; i < 8; ++i) {
        const int8x16_t b = vld1q_s8(panel + 16 * i);
        for (int r = 0; r < 2; ++r) sum[r][i] = vmmlaq_s32(sum[r][i], a[r], b);
      }
    }
    for (int r = 0; r < 2; ++r) {
      for (int i = 0; i < 8; i += 2) {
        int32_t* to = sums + 2 * r * sum_stride + 2 * i;
        vst1q_s32(to, vcombine_s32(vget_low_s32(sum[r][i]), vget_low_s32(sum[r][i + 1])));
        vst1q_s32(to + sum_stride, vcombine_s32(vget_high_s32(sum[r][i]), vget_high_s32(sum[r][i + 1])));
      }
    }
  }
};

}  // namespace

#include "make_path.h"

namespace fastspan {
const Path kNeonI8mm = make_path<NeonI8mm>("neoni8mm");
}
