// Attention of one head within one window, in integers.
//
// score = (float(Σ query code · key code) · key's scale − the row's largest) · (query's scale · log₂e / √size)
// probability = round(4095 · 2^score); context = (float(Σ probability · value code) · value's scale) / Σ probability,
// the division as a product with the reciprocal. The mean key is taken off all keys first: it adds the same to
// all scores of a query, which the softmax does not see, and without it keys round finer.
//
// Σ probability · value code is exact over up to kSummed keys. Longer windows have several such stretches, whose sums
// become floats and are added in their order.
#pragma once
#include "arena.h"
#include "elementary.h"
#include "inlining.h"
#include "multiply.h"
#include "rounding.h"
#include "stages.h"
#include "team.h"

namespace {

// Where the floats of one head and window lie: query, key and value of the first token, and from one to the next.
struct Projected {
  const float *query, *key, *value;
  size_t stride;
};

template <class P>
struct AttentionMemory {
  float* mean;                    // (size,)
  int8_t* key_code;               // (panel, depth)
  typename P::Weight* keys;       // panels of keys
  int32_t* key_start;             // (keys,)
  float* key_scale;               // (keys,)
  char* values;
  float* value_scale;             // (size,)
  typename P::Code* query_code;   // (query rows, depth)
  float* query_scale;             // (query rows,)
  int32_t* scores;                // (query rows, keys): integers, then the bits of floats
  char* probabilities;
  int32_t* totals;                // (query rows,): sums of probabilities
  int32_t* context;               // (query rows, size), of one stretch of keys
  float* added;                   // (query rows, size), of all stretches
  size_t value_bytes, probability_bytes;   // of one stretch

  AttentionMemory(Arena& arena, int size, int longest) {
    const int depth = round_up(size, P::kDepth), all_keys = round_up(longest, kWidth);
    const int stretches = (longest + kSummed - 1) / kSummed;
    value_bytes = P::value_bytes(kSummed, size);
    probability_bytes = P::probability_bytes(kSummed);
    mean = arena.take<float>(size);
    key_code = arena.take<int8_t>(P::kPanel * depth);
    keys = arena.take<typename P::Weight>(static_cast<size_t>(all_keys) * depth);
    key_start = arena.take<int32_t>(all_keys);
    key_scale = arena.take<float>(all_keys);
    values = arena.take<char>(stretches * value_bytes);
    value_scale = arena.take<float>(size);
    query_code = arena.take<typename P::Code>(static_cast<size_t>(P::kRows) * depth + kWidth);   // written 64 at a time
    query_scale = arena.take<float>(P::kRows);
    scores = arena.take<int32_t>(static_cast<size_t>(P::kRows) * all_keys);
    probabilities = arena.take<char>(stretches * probability_bytes);
    totals = arena.take<int32_t>(P::kRows);
    context = arena.take<int32_t>(static_cast<size_t>(P::kRows) * size);
    added = arena.take<float>(static_cast<size_t>(P::kRows) * size);
  }

  char* values_from(int key) const { return values + key / kSummed * value_bytes; }
  char* probabilities_from(int key) const { return probabilities + key / kSummed * probability_bytes; }
};

// How many of the keys, from `first`, are summed in integers.
FS_INLINE int stretch(int keys, int first) { return keys - first < kSummed ? keys - first : kSummed; }

// Those behind the last, up to a multiple of 64, are zero.
template <class P>
void round_keys(const float* key, size_t stride, int length, int size, const AttentionMemory<P>& m) {
  const int depth = round_up(size, P::kDepth);
  const float count = static_cast<float>(length);
  for (int c = 0; c < size; c += 16) {
    F total = all(0.0f);
    for (int j = 0; j < length; ++j) total = add(total, load(key + j * stride + c));
    store(m.mean + c, div(total, all(count)));
  }
  for (int j = 0; j < round_up(length, kWidth); ++j) {
    int8_t* code = m.key_code + static_cast<size_t>(j % P::kPanel) * depth;
    F most = all(0.0f);
    if (j < length) {
      for (int c = 0; c < size; c += 16) most = max(abs(sub(load(key + j * stride + c), load(m.mean + c))), most);
    }
    const float size_of_row = largest(most);
    const bool nothing = size_of_row < kSmallest;
    m.key_scale[j] = nothing ? 0.0f : size_of_row / 127.0f;
    const F by = all(nothing ? 0.0f : 127.0f / size_of_row);
    for (int c = 0; c < depth; c += 16) {
      if (c < size && j < length) {
        store_bytes(code + c, code_of(sub(load(key + j * stride + c), load(m.mean + c)), by));
      } else {
        store_bytes(code + c, all(0));
      }
    }
    if (j % P::kPanel == P::kPanel - 1) {
      const int first_key = j - (P::kPanel - 1);
      P::pack_keys(m.key_code, depth, m.keys + static_cast<size_t>(first_key) * depth, m.key_start + first_key);
    }
  }
}

template <class P>
void round_values(const float* value, size_t stride, int length, int size, const AttentionMemory<P>& m) {
  const int keys = round_up(length, kWidth);
  const F low = all(-511.0f);
  for (int c = 0; c < size; c += 16) {
    F most = all(0.0f);
    for (int j = 0; j < length; ++j) most = max(abs(load(value + j * stride + c)), most);
    // A channel of zeros keeps codes of zero: 0 · (511 / 10⁻³⁰).
    most = max(most, all(kSmallest));
    store(m.value_scale + c, div(most, all(511.0f)));
    const F by = div(all(511.0f), most);
    for (int j = 0; j < keys; j += P::kValueRows) {
      I code[P::kValueRows];
      for (int t = 0; t < P::kValueRows; ++t) {
        code[t] = j + t < length ? round(max(mul(load(value + (j + t) * stride + c), by), low)) : all(0);
      }
      P::store_values(m.values_from(j), stretch(keys, j / kSummed * kSummed), size, j % kSummed, c, code);
    }
  }
}

template <class P>
FS_INLINE void round_query(const float* query, int size, int depth, typename P::Code* code, float* scale) {
  F most = all(0.0f);
  for (int c = 0; c < size; c += 16) most = max(abs(load(query + c)), most);
  const float size_of_row = largest(most);
  const bool nothing = size_of_row < kSmallest;
  *scale = nothing ? 0.0f : size_of_row / 127.0f;
  const F by = all(nothing ? 0.0f : 127.0f / size_of_row);
  for (int c = 0; c < depth; c += 64) {
    I codes[4];
    for (int t = 0; t < 4; ++t) codes[t] = c + 16 * t < size ? code_of(load(query + c + 16 * t), by) : all(0);
    P::store_codes(code + c, codes);
  }
}

// Sums of one query to scores, in their place; returns the largest. Those behind the last key are minus infinity.
FS_INLINE float scale_scores(int32_t* scores, int length, int keys, const float* key_scale) {
  const F lowest = all(-__builtin_huge_valf());
  F most = lowest;
  int j = 0;
  for (; j + 16 <= length; j += 16) {
    const F score = mul(convert(load(scores + j)), load(key_scale + j));
    most = max(score, most);
    store(scores + j, bits(score));
  }
  if (j < length) {
    const F score = first(length - j, mul(convert(load(scores + j)), load(key_scale + j)), lowest);
    most = max(score, most);
    store(scores + j, bits(score));
    j += 16;
  }
  for (; j < keys; j += 16) store(scores + j, bits(lowest));
  return largest(most);
}

// Scores of one query to probabilities; returns their sum.
template <class P>
FS_INLINE int32_t soften(const int32_t* scores, int keys, float most, float factor, int row, const AttentionMemory<P>& m) {
  const F top = all(most), by = all(factor);
  const Power power(4095.0f);
  I total = all(0);
  for (int begin = 0; begin < keys; begin += kSummed) {
    const int here = stretch(keys, begin);
    char* to = m.probabilities_from(begin);
    for (int k = 0; k < here; k += 64) {
      I p[4];
      for (int t = 0; t < 4; ++t) {
        p[t] = round(power(mul(sub(from_bits(load(scores + begin + k + 16 * t)), top), by)));
        total = add(total, p[t]);
      }
      P::store_probabilities(to, here, row, k, p);
    }
  }
  return sum(total);
}

// Probabilities by values, of `rows` queries: as integers in `context` where one stretch holds all keys, else as
// floats in `added`.
template <class P>
FS_INLINE void weigh_values(int rows, int keys, int size, const AttentionMemory<P>& m) {
  for (int begin = 0; begin < keys; begin += kSummed) {
    P::context(m.probabilities_from(begin), stretch(keys, begin), rows, m.values_from(begin), size, m.context);
    if (keys <= kSummed) return;
    for (int i = 0; i < rows * size; i += 16) {
      const F sums = convert(load(m.context + i));
      store(m.added + i, begin == 0 ? sums : add(load(m.added + i), sums));
    }
  }
}

// Whoever takes a task has looked at the clock; within it that is worth it again after so many scores, a millisecond
// of them at most. To look costs as much as some thirty scores do, and more where it flushes what is being computed.
constexpr int kScoresUntimed = 1 << 17;

// Queries first … last − 1 of a window of `length` tokens. Ends early in a run that is late.
template <class P>
void attend(const Projected& from, int length, int size, int first, int last, float* out, size_t out_stride,
            const AttentionMemory<P>& m, Team& team) {
  const int depth = round_up(size, P::kDepth), keys = round_up(length, kWidth);
  const float factor = 1.44269504f / __builtin_sqrtf(static_cast<float>(size));
  Nothing nothing;
  const Counted counted(kRounding);
  round_keys<P>(from.key, from.stride, length, size, m);
  round_values<P>(from.value, from.stride, length, size, m);
  for (int i = first, untimed = 0; i < last; i += P::kQueryRows, untimed += P::kQueryRows * keys) {
    if (untimed >= kScoresUntimed) {
      if (team.look_at_clock()) return;
      untimed = 0;
    }
    const int rows = last - i < P::kQueryRows ? last - i : P::kQueryRows;
    for (int r = 0; r < rows; ++r) {
      round_query<P>(from.query + (i + r) * from.stride, size, depth, m.query_code + r * depth, m.query_scale + r);
    }
    const Counted products(kAttentionProducts);
    for (int j = 0; j < keys; j += P::kPanel) {
      P::product(m.query_code, depth, rows, m.keys + static_cast<size_t>(j) * depth, depth, m.key_start + j,
                 m.scores + j, keys, nothing);
    }
    {
      // First all rows' largest, then all rows' probabilities: one row's sum over lanes need not wait for another's.
      const Counted softmax(kSoftmax);
      float most[P::kQueryRows];
      for (int r = 0; r < rows; ++r) {
        most[r] = scale_scores(m.scores + static_cast<size_t>(r) * keys, length, keys, m.key_scale);
      }
      for (int r = 0; r < rows; ++r) {
        m.totals[r] = soften<P>(m.scores + static_cast<size_t>(r) * keys, keys, most[r], m.query_scale[r] * factor, r, m);
      }
    }
    weigh_values<P>(rows, keys, size, m);
    for (int r = 0; r < rows; ++r) {
      const F by = all(1.0f / static_cast<float>(m.totals[r]));
      for (int c = 0; c < size; c += 16) {
        const int at = r * size + c;
        const F sums = keys <= kSummed ? convert(load(m.context + at)) : load(m.added + at);
        store(out + (i + r) * out_stride + c, mul(mul(sums, load(m.value_scale + c)), by));
      }
    }
  }
}

}  // namespace
