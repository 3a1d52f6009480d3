// The reference path: plain C++, compiled for the oldest CPU of the platform.
#include "model.h"
#include "team.h"
#include "lanes_portable.h"

namespace {

struct Portable {
  using Code = int8_t;
  using Weight = int8_t;
  static constexpr bool kCallsAhead = false;
  struct Session {
    Session() {}
  };
  static constexpr int kRows = 8, kPanel = 64, kQueryRows = 8, kValueRows = 1, kDepth = 16;

  static void store_codes(Code* out, const I (&v)[4]) { store_bytes(out, v); }

  // A panel is (depth, 64).
  static void pack(const int8_t* weight, size_t stride, int depth, Weight* panel, int32_t* start) {
    for (int k = 0; k < depth; ++k) std::memcpy(panel + k * 64, weight + k * stride, 64);
    std::memset(start, 0, 64 * sizeof *start);
  }
  static void pack_keys(const int8_t* key, int depth, Weight* panel, int32_t* start) {
    for (int j = 0; j < 64; ++j) {
      for (int k = 0; k < depth; ++k) panel[k * 64 + j] = key[j * depth + k];
      start[j] = 0;
    }
  }
  template <class Side>
  static void product(const Code* code, size_t stride, int rows, const Weight* panel, int depth, const int32_t* start,
                      int32_t* sums, size_t sum_stride, Side&) {
    for (int r = 0; r < rows; ++r) {
      int32_t total[64];
      std::memcpy(total, start, sizeof total);
      for (int k = 0; k < depth; ++k) {
        for (int j = 0; j < 64; ++j) total[j] += code[r * stride + k] * panel[k * 64 + j];
      }
      std::memcpy(sums + r * sum_stride, total, sizeof total);
    }
  }

  // Probabilities are int16 (rows, keys), values int16 (keys, size).
  static size_t probability_bytes(int keys) { return static_cast<size_t>(kRows) * keys * 2; }
  static size_t value_bytes(int keys, int size) { return static_cast<size_t>(keys) * size * 2; }
  static void store_probabilities(char* to, int keys, int row, int key, const I (&p)[4]) {
    store_shorts(to + 2 * (static_cast<size_t>(row) * keys + key), p);
  }
  static void store_values(char* to, int, int size, int key, int channel, const I* v) {
    store_shorts(to + 2 * (static_cast<size_t>(key) * size + channel), v[0]);
  }
  static void context(const char* probabilities, int keys, int rows, const char* values, int size, int32_t* out) {
    const int16_t* p = reinterpret_cast<const int16_t*>(probabilities);
    const int16_t* v = reinterpret_cast<const int16_t*>(values);
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < size; ++c) {
        int32_t total = 0;
        for (int j = 0; j < keys; ++j) total += p[r * keys + j] * v[static_cast<size_t>(j) * size + c];
        out[r * size + c] = total;
      }
    }
  }
};

}  // namespace

#include "make_path.h"

namespace fastspan {
const Path kPortable = make_path<Portable>("portable");
}
