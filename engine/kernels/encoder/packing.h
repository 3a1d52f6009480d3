// Panels of (depth / n, columns, n): n neighbouring channels of a column side by side.
#pragma once
#include <cstring>

#include "inlining.h"

namespace {

template <int columns, int n>
void pack_columns(const int8_t* weight, size_t stride, int depth, int8_t* panel) {
  for (int k = 0; k < depth; k += n) {
    for (int j = 0; j < columns; ++j) {
      for (int t = 0; t < n; ++t) panel[k * columns + j * n + t] = weight[(k + t) * stride + j];
    }
  }
}

// As many rows of `depth` codes as a panel has columns.
template <int columns, int n>
void pack_rows(const int8_t* row, int depth, int8_t* panel) {
  for (int j = 0; j < columns; ++j) {
    for (int k = 0; k < depth; k += n) std::memcpy(panel + k * columns + j * n, row + static_cast<size_t>(j) * depth + k, n);
  }
}

}  // namespace
