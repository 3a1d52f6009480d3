#include "toy.h"

namespace fastspan {
namespace {

// A linear congruential generator; its high bits are good enough for test data.
uint32_t next(uint32_t& state) {
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}

}  // namespace

Toy::Toy(const ToySizes& s) : sizes_(s), state_(s.seed) {
  add_floats({s.vocabulary, s.width}, 0, 2);
  add_floats({s.positions, s.width}, 0, 2);
  if (s.segments) add_floats({2, s.width}, 0, 2);
  add_norm(s.width);
  if (s.width != s.hidden) add_linear(s.width, s.hidden, 64, 16);
  for (int i = 0; i < s.layers; ++i) {
    add_linear(s.hidden, 3 * s.hidden, s.group, 1);
    add_linear(s.hidden, s.hidden, s.group, 2);
    add_norm(s.hidden);
    add_linear(s.hidden, s.inner, s.group, 4);
    add_linear(s.inner, s.hidden, s.inner_group, 8);
    add_norm(s.hidden);
  }
  add_floats({s.hidden, 2}, 0, 0.5f);
  add_floats({2}, 0, 1);
}

uint32_t Toy::draw() { return next(state_); }

// Multiples of 2⁻²³ times the spread: exact on every machine.
void Toy::add_floats(std::vector<int64_t> shape, float around, float spread) {
  size_t count = 1;
  for (int64_t n : shape) count *= static_cast<size_t>(n);
  std::vector<float> values(count);
  for (float& v : values) {
    const float unit = static_cast<float>(static_cast<int32_t>(draw()) - (1 << 23)) * (1.0f / (1 << 23));
    const float part = unit * spread;
    v = around + part;
  }
  order_.push_back({true, floats_.size(), std::move(shape)});
  floats_.push_back(std::move(values));
}

void Toy::add_bytes(std::vector<int64_t> shape) {
  std::vector<int8_t> values(static_cast<size_t>(shape[0] * shape[1]));
  for (int8_t& v : values) v = static_cast<int8_t>(static_cast<int32_t>(draw() % 255) - 127);
  order_.push_back({false, bytes_.size(), std::move(shape)});
  bytes_.push_back(std::move(values));
}

void Toy::add_norm(int size) {
  add_floats({size}, 1, 0.25f);
  add_floats({size}, 0, 0.25f);
}

void Toy::add_linear(int in, int out, int group, int kind) {
  add_bytes({in, out});
  add_floats({in / group, out}, 1.0f / 1024, 1.0f / 2048);
  add_floats({out}, 0, 0.25f);
  if ((sizes_.prescaled & kind) != 0) add_floats({in}, 1, 0.5f);
}

std::vector<Tensor> Toy::tensors() const {
  std::vector<Tensor> tensors;
  for (const Place& p : order_) {
    const void* data = p.is_float ? static_cast<const void*>(floats_[p.index].data()) : bytes_[p.index].data();
    tensors.push_back({p.is_float ? Type::kFloat : Type::kInt8, data, p.shape});
  }
  return tensors;
}

Attributes Toy::attributes() const {
  Attributes a;
  a.heads = sizes_.heads, a.layers = sizes_.layers, a.padding_id = sizes_.padding_id;
  a.segments = sizes_.segments ? 1 : 0, a.asymmetric = sizes_.asymmetric;
  a.prescaled = sizes_.prescaled;
  a.epsilon = 1e-12f, a.activation = sizes_.activation;
  return a;
}

ToyInput::ToyInput(const ToySizes& sizes, const std::vector<int>& lengths, uint32_t seed) : ends{0} {
  uint32_t state = seed;
  for (int length : lengths) ends.push_back(ends.back() + length);
  for (int i = 0; i < ends.back(); ++i) {
    ids.push_back(static_cast<int32_t>(next(state) % static_cast<uint32_t>(sizes.vocabulary)));
    types.push_back(static_cast<int32_t>(next(state) % 2));
  }
  start.resize(ids.size());
  end.resize(ids.size());
}

RunInput ToyInput::run() {
  RunInput in;
  in.ids = ids.data(), in.types = types.data(), in.ends = ends.data();
  in.rows = static_cast<int64_t>(ids.size()), in.windows = static_cast<int64_t>(ends.size()) - 1;
  in.start_logits = start.data(), in.end_logits = end.data();
  return in;
}

}  // namespace fastspan
