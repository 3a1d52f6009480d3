// Memory in large pages: weights stream through the CPU, and with small pages every fourth kilobyte costs a walk.
#pragma once
#include <cstddef>

namespace fastspan {

class Memory {
 public:
  Memory() = default;
  explicit Memory(size_t bytes);   // zeros; data() is nullptr where there is no memory
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace fastspan
