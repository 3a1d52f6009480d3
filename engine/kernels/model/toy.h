// A small encoder whose weights are drawn from a formula: the same on every machine.
#pragma once
#include <vector>

#include "runner.h"

namespace fastspan {

struct ToySizes {
  int hidden = 64, width = 64, inner = 128, layers = 1, heads = 2;
  int group = 64, inner_group = 64;
  int vocabulary = 32, positions = 512;
  bool segments = true;
  int64_t asymmetric = 8, prescaled = 4, padding_id = -1;
  const char* activation = "gelu";
  uint32_t seed = 1;
};

class Toy {
 public:
  explicit Toy(const ToySizes& sizes);
  // Tensors point into this object.
  std::vector<Tensor> tensors() const;
  Attributes attributes() const;
  // Every float or weight of the model, for tests that spoil some.
  std::vector<std::vector<float>>& floats() { return floats_; }

 private:
  uint32_t draw();
  void add_floats(std::vector<int64_t> shape, float around, float spread);
  void add_bytes(std::vector<int64_t> shape);
  void add_norm(int size);
  void add_linear(int in, int out, int group, int kind);   // kind: the bit of asymmetric and prescaled

  struct Place {
    bool is_float;
    size_t index;
    std::vector<int64_t> shape;
  };
  ToySizes sizes_;
  uint32_t state_;
  std::vector<std::vector<float>> floats_;
  std::vector<std::vector<int8_t>> bytes_;
  std::vector<Place> order_;
};

// Token ids, segment ids and the ends of windows of these lengths.
struct ToyInput {
  ToyInput(const ToySizes& sizes, const std::vector<int>& lengths, uint32_t seed);
  RunInput run();
  std::vector<int32_t> ids, types, ends;
  std::vector<float> start, end;
};

}  // namespace fastspan
