// Probabilities by values as int16: probabilities (4 rows, keys), values (keys, size).
#pragma once
#include <arm_neon.h>

#include "inlining.h"

namespace {

struct NeonAttention {
  static constexpr int kValueRows = 1;
  static size_t probability_bytes(int keys) { return size_t{4} * keys * 2; }
  static size_t value_bytes(int keys, int size) { return static_cast<size_t>(keys) * size * 2; }
  static FS_INLINE void store_probabilities(char* to, int keys, int row, int key, const I (&p)[4]) {
    store_shorts(to + 2 * (static_cast<size_t>(row) * keys + key), p);
  }
  static FS_INLINE void store_values(char* to, int, int size, int key, int channel, const I* v) {
    store_shorts(to + 2 * (static_cast<size_t>(key) * size + channel), v[0]);
  }
  // Rows behind the last one are computed too: they are memory of the run, and nobody reads their sums.
  static void context(const char* probabilities, int keys, int, const char* values, int size, int32_t* out) {
    const int16_t* p = reinterpret_cast<const int16_t*>(probabilities);
    for (int c = 0; c < size; c += 16) {
      const int16_t* v = reinterpret_cast<const int16_t*>(values) + c;
      int32x4_t sum[4][4];
      for (auto& row : sum) {
        for (auto& part : row) part = vdupq_n_s32(0);
      }
      for (int j = 0; j < keys; ++j, v += size) {
        const int16x8_t low = vld1q_s16(v), high = vld1q_s16(v + 8);
        for (int r = 0; r < 4; ++r) {
          const int16_t by = p[r * keys + j];
          sum[r][0] = vmlal_n_s16(sum[r][0], vget_low_s16(low), by);
          sum[r][1] = vmlal_n_s16(sum[r][1], vget_high_s16(low), by);
          sum[r][2] = vmlal_n_s16(sum[r][2], vget_low_s16(high), by);
          sum[r][3] = vmlal_n_s16(sum[r][3], vget_high_s16(high), by);
        }
      }
      for (int r = 0; r < 4; ++r) {
        for (int i = 0; i < 4; ++i) vst1q_s32(out + r * size + c + 4 * i, sum[r][i]);
      }
    }
  }
};

}  // namespace
