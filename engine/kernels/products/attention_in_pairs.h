// Probabilities by values as int16: probabilities (rows, keys), values in panels of (keys / 2, 16 channels, 2).
#pragma once
#include "inlining.h"

namespace {

// Shorts::product multiplies rows of pairs by such a panel.
template <class Shorts>
struct AttentionInPairs {
  static constexpr int kValueRows = 2;
  static size_t probability_bytes(int keys) { return size_t{6} * keys * 2; }
  static size_t value_bytes(int keys, int size) { return static_cast<size_t>(keys) * size * 2; }
  static FS_INLINE void store_probabilities(char* to, int keys, int row, int key, const I (&p)[4]) {
    store_shorts(to + 2 * (static_cast<size_t>(row) * keys + key), p);
  }
  static FS_INLINE void store_values(char* to, int keys, int, int key, int channel, const I* v) {
    const I pair = bit_or(bit_and(v[0], all(0xffff)), shift_left<16>(v[1]));
    store(reinterpret_cast<int32_t*>(to + static_cast<size_t>(channel) * keys * 2) + key / 2 * 16, pair);
  }
  static void context(const char* probabilities, int keys, int rows, const char* values, int size, int32_t* out) {
    static const int32_t zeros[16] = {};
    for (int c = 0; c < size; c += 16) {
      Shorts::product(probabilities, static_cast<size_t>(keys) * 2, rows, values + static_cast<size_t>(c) * keys * 2,
                      keys / 2, zeros, reinterpret_cast<char*>(out + c), size * sizeof(int32_t));
    }
  }
};

}  // namespace
