// Products in AMX's tiles: 16 rows of 64 bytes. A tile of codes by a tile of the panel, 16 columns of 64 channels, is
// 16 × 16 sums in 16 cycles, as many multiplications as 8 registers of VNNI do in as many cycles sixteen times over.
// The vector units are idle meanwhile: at each step a `side` job makes floats of the sums before.
#pragma once
#include <immintrin.h>

#include "inlining.h"

namespace {

// Tiles belong to a thread: set up when it joins a run, given back when it leaves.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) Config {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int i = 0; i < 8; ++i) {
      config.bytes[i] = 64;
      config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

constexpr int kTileSteps = 2;                     // steps between two turns of the side job
constexpr int kTilePanel = 32;                    // columns
constexpr size_t kPanelStride = kTilePanel * 4;    // bytes from one quad of channels to the next

// All 32 rows are computed: those behind the last one are memory of the run too, and nobody reads their sums.
template <class Side>
FS_INLINE void product_32x32(const int8_t* code, size_t stride, const int8_t* panel, int depth, int32_t* sums,
                             size_t sum_stride, Side& side) {
  const int steps = depth / 64, turns = (steps + kTileSteps - 1) / kTileSteps, share = (32 + turns - 1) / turns;
  const int8_t* lower = code + 16 * stride;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int k = 0; k < steps; ++k) {
    _tile_loadd(4, code + k * 64, stride);
    _tile_loadd(6, panel, kPanelStride);
    _tile_dpbssd(0, 4, 6);
    _tile_loadd(7, panel + 64, kPanelStride);
    _tile_dpbssd(1, 4, 7);
    _tile_loadd(5, lower + k * 64, stride);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
    panel += 64 * kTilePanel;
    side.call();
    if (k % kTileSteps == kTileSteps - 1 || k == steps - 1) side.some(share);
  }
  const size_t bytes = sum_stride * sizeof(int32_t);
  _tile_stored(0, sums, bytes);
  _tile_stored(1, sums + 16, bytes);
  _tile_stored(2, sums + 16 * sum_stride, bytes);
  _tile_stored(3, sums + 16 * sum_stride + 16, bytes);
}

template <class Side>
FS_INLINE void product_16x32(const int8_t* code, size_t stride, const int8_t* panel, int depth, int32_t* sums,
                             size_t sum_stride, Side& side) {
  const int steps = depth / 64, turns = (steps + kTileSteps - 1) / kTileSteps, share = (16 + turns - 1) / turns;
  _tile_zero(0);
  _tile_zero(1);
  for (int k = 0; k < steps; ++k) {
    _tile_loadd(4, code + k * 64, stride);
    _tile_loadd(6, panel, kPanelStride);
    _tile_dpbssd(0, 4, 6);
    _tile_loadd(7, panel + 64, kPanelStride);
    _tile_dpbssd(1, 4, 7);
    panel += 64 * kTilePanel;
    side.call();
    if (k % kTileSteps == kTileSteps - 1 || k == steps - 1) side.some(share);
  }
  _tile_stored(0, sums, sum_stride * sizeof(int32_t));
  _tile_stored(1, sums + 16, sum_stride * sizeof(int32_t));
}

// Probabilities (12 bits) and values (10 bits) in parts of 6 bits: p = 64 · high + low, v = 64 · high + low, so
// Σ p · v = 4096 · Σ high · high + 64 · (Σ high · low + Σ low · high) + Σ low · low: four products of bytes, each
// with sums of its own, because a product that adds to the one before must wait for it.
struct AmxAttention {
  static constexpr int kValueRows = 4;
  // Two matrices of bytes, (16, keys); two panels of quads, (keys / 4, channels, 4).
  static size_t probability_bytes(int keys) { return size_t{2} * 16 * keys; }
  static size_t value_bytes(int keys, int size) { return size_t{2} * keys * size; }

  static FS_INLINE void store_probabilities(char* to, int keys, int row, int key, const I (&p)[4]) {
    // Packing leaves the fours of the four vectors alternating: values lie in the same order.
    const __m512i low = _mm512_set1_epi16(63);
    const __m512i p0 = _mm512_packs_epi32(p[0], p[1]), p1 = _mm512_packs_epi32(p[2], p[3]);
    char* high = to + static_cast<size_t>(row) * keys + key;
    _mm512_storeu_si512(high, _mm512_packs_epi16(_mm512_srli_epi16(p0, 6), _mm512_srli_epi16(p1, 6)));
    _mm512_storeu_si512(high + size_t{16} * keys,
                        _mm512_packs_epi16(_mm512_and_si512(p0, low), _mm512_and_si512(p1, low)));
  }
  // Where four keys lie that begin at `key`: of 64 keys the first fours of each sixteen, then the second, …
  static FS_INLINE int place(int key) { return key / 64 * 64 + key % 16 * 4 + key % 64 / 16 * 4; }
  static FS_INLINE void store_values(char* to, int keys, int size, int key, int channel, const I* v) {
    I high = all(0), low = all(0);
    for (int t = 0; t < 4; ++t) {
      const I h = shift_right<6>(add(v[t], all(32)));   // −8 … 8, so that low is −32 … 31
      const I l = sub(v[t], shift_left<6>(h));
      high = bit_or(high, byte(h, t));
      low = bit_or(low, byte(l, t));
    }
    char* at = to + static_cast<size_t>(place(key)) * size + channel * 4;
    _mm512_storeu_si512(at, high);
    _mm512_storeu_si512(at + static_cast<size_t>(keys) * size, low);
  }
  static FS_INLINE I byte(I a, int t) {
    const I b = bit_and(a, all(255));
    return t == 0 ? b : t == 1 ? shift_left<8>(b) : t == 2 ? shift_left<16>(b) : shift_left<24>(b);
  }

  static void context(const char* probabilities, int keys, int rows, const char* values, int size, int32_t* out) {
    alignas(64) int32_t part[4][16 * 16];
    const char* p_low = probabilities + size_t{16} * keys;
    const char* v_low = values + static_cast<size_t>(keys) * size;
    for (int c = 0; c < size; c += 16) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int j = 0; j < keys; j += 64) {
        const size_t at = static_cast<size_t>(j) * size + c * 4;
        _tile_loadd(4, probabilities + j, keys);
        _tile_loadd(6, values + at, size * 4);
        _tile_dpbssd(0, 4, 6);
        _tile_loadd(7, v_low + at, size * 4);
        _tile_dpbssd(1, 4, 7);
        _tile_loadd(5, p_low + j, keys);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      }
      _tile_stored(0, part[0], 64);
      _tile_stored(1, part[1], 64);
      _tile_stored(2, part[2], 64);
      _tile_stored(3, part[3], 64);
      for (int r = 0; r < rows; ++r) {
        const I between = add(load(part[1] + 16 * r), load(part[2] + 16 * r));
        const I upper = add(shift_left<6>(load(part[0] + 16 * r)), between);
        store(out + r * size + c, add(shift_left<6>(upper), load(part[3] + 16 * r)));
      }
    }
  }
};

}  // namespace
