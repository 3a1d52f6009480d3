// Attention of one head within one window, in integers.
//
// score = (float(Σ query code · key code) · key's scale − the row's largest) · (query's scale · log₂e / √size)
// probability = round(4095 · 2^score); context = (float(Σ probability · value code) · value's scale) / Σ probability,
// the division as a product with the reciprocal. The mean key is taken off all keys first: it adds the same to
// all scores of a query, which the softmax does not see, and without it keys round finer.
#pragma once
#include "arena.h"
#include "elementary.h"
#include "inlining.h"
#include "multiply.h"
#include "rounding.h"

namespace {

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
  int32_t* scores;                // (query rows, keys)
  char* probabilities;
  int32_t* totals;                // (query rows,): sums of probabilities
  int32_t* context;               // (query rows, size)

  AttentionMemory(Arena& arena, int size) {
    const int depth = round_up(size, P::kDepth);
    mean = arena.take<float>(size);
    key_code = arena.take<int8_t>(P::kPanel * depth);
    keys = arena.take<typename P::Weight>(static_cast<size_t>(kLongest) * depth);
    key_start = arena.take<int32_t>(kLongest);
    key_scale = arena.take<float>(kLongest);
    values = arena.take<char>(P::value_bytes(kLongest, size));
    value_scale = arena.take<float>(size);
    query_code = arena.take<typename P::Code>(static_cast<size_t>(P::kRows) * depth);
    query_scale = arena.take<float>(P::kRows);
    scores = arena.take<int32_t>(static_cast<size_t>(P::kRows) * kLongest);
    probabilities = arena.take<char>(P::probability_bytes(kLongest));
    totals = arena.take<int32_t>(P::kRows);
    context = arena.take<int32_t>(static_cast<size_t>(P::kRows) * size);
  }
};

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
    const F by = all(nothing ? 0.0f : 127.0f / size_of_row), low = all(-127.0f), high = all(127.0f);
    for (int c = 0; c < depth; c += 16) {
      if (c < size && j < length) {
        const F centred = sub(load(key + j * stride + c), load(m.mean + c));
        store_bytes(code + c, round(min(max(mul(centred, by), low), high)));
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
  const F low = all(-511.0f), high = all(511.0f);
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
        code[t] = j + t < length ? round(min(max(mul(load(value + (j + t) * stride + c), by), low), high)) : all(0);
      }
      P::store_values(m.values, keys, size, j, c, code);
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
  write_codes<P>(Plain{query}, size, 0.0f, nothing ? 0.0f : 127.0f / size_of_row, code);
  for (int c = size; c < depth; c += 16) P::store_codes(code + c, all(0));
}

// Scores of one query to probabilities; returns their sum.
template <class P>
FS_INLINE int32_t soften(const int32_t* scores, const float* key_scale, int length, int keys, float factor, char* to,
                         int row) {
  const F lowest = all(-__builtin_huge_valf());
  F most = lowest;
  const int whole = length / 16 * 16, left = length - whole;
  for (int j = 0; j < whole; j += 16) most = max(mul(convert(load(scores + j)), load(key_scale + j)), most);
  if (left > 0) {
    const F last = mul(convert(load(scores + whole)), load(key_scale + whole));
    most = max(first(left, last, lowest), most);
  }
  const F top = all(largest(most)), by = all(factor);
  const Power power(4095.0f);
  I total = all(0);
  for (int j = 0; j < whole; j += 16) {
    const F score = mul(convert(load(scores + j)), load(key_scale + j));
    const I p = round(power(mul(sub(score, top), by)));
    total = add(total, p);
    P::store_probabilities(to, keys, row, j, p);
  }
  int j = whole;
  if (left > 0) {
    const F score = mul(convert(load(scores + j)), load(key_scale + j));
    const I p = round(first(left, power(mul(sub(score, top), by)), all(0.0f)));
    total = add(total, p);
    P::store_probabilities(to, keys, row, j, p);
    j += 16;
  }
  for (; j < keys; j += 16) P::store_probabilities(to, keys, row, j, all(0));
  return sum(total);
}

template <class P>
void attend(const float* query, const float* key, const float* value, size_t stride, int length, int size, float* out,
            size_t out_stride, const AttentionMemory<P>& m) {
  const int depth = round_up(size, P::kDepth), keys = round_up(length, kWidth);
  const float factor = 1.44269504f / __builtin_sqrtf(static_cast<float>(size));
  Nothing nothing;
  round_keys<P>(key, stride, length, size, m);
  round_values<P>(value, stride, length, size, m);
  for (int i = 0; i < length; i += P::kQueryRows) {
    const int rows = length - i < P::kQueryRows ? length - i : P::kQueryRows;
    for (int r = 0; r < rows; ++r) {
      round_query<P>(query + (i + r) * stride, size, depth, m.query_code + r * depth, m.query_scale + r);
    }
    for (int j = 0; j < keys; j += P::kPanel) {
      P::product(m.query_code, depth, rows, m.keys + static_cast<size_t>(j) * depth, depth, m.key_start + j,
                 m.scores + j, keys, nothing);
    }
    for (int r = 0; r < rows; ++r) {
      m.totals[r] = soften<P>(m.scores + static_cast<size_t>(r) * keys, m.key_scale, length, keys,
                              m.query_scale[r] * factor, m.probabilities, r);
    }
    P::context(m.probabilities, keys, rows, m.values, size, m.context);
    for (int r = 0; r < rows; ++r) {
      const F by = all(1.0f / static_cast<float>(m.totals[r]));
      for (int c = 0; c < size; c += 16) {
        const F sums = convert(load(m.context + r * size + c));
        store(out + (i + r) * out_stride + c, mul(mul(sums, load(m.value_scale + c)), by));
      }
    }
  }
}

}  // namespace
