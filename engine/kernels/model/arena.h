// Memory of a run, laid out once: with no base it only counts.
#pragma once
#include "inlining.h"

namespace {

class Arena {
 public:
  explicit Arena(char* base) : base_(base) {}
  // n values, on a cache line of their own.
  template <class T>
  T* take(size_t n) {
    T* at = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (n * sizeof(T) + 127) / 64 * 64;
    return at;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

FS_INLINE int round_up(int n, int step) { return (n + step - 1) / step * step; }

}  // namespace
