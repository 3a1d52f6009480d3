// A graph's tensors to a model of packed weights.
#pragma once
#include <string>
#include <vector>

#include "memory.h"
#include "model.h"

namespace fastspan {

enum class Type { kFloat, kInt8, kOther };

struct Tensor {
  Type type = Type::kOther;
  const void* data = nullptr;
  std::vector<int64_t> shape;
};

struct Attributes {
  int64_t heads = 0, layers = 0, padding_id = -1, segments = 0, asymmetric = 0, prescaled = 0;
  float epsilon = 0;
  std::string activation = "gelu";
};

// Holds pointers into the tensors it was made of, and packed copies of the linear layers' weights.
struct PackedModel {
  Model model;
  std::vector<Layer> layers;
  std::vector<float> head;
  Memory memory;
};

// Reads the tensors in the order that docs/kernels.md gives. Returns what is wrong, or an empty text.
std::string pack_model(const Path& path, const Attributes& attributes, const std::vector<Tensor>& tensors,
                       PackedModel& packed);

}  // namespace fastspan
