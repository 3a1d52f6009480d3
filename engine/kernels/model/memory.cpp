#include "memory.h"

#include <sys/mman.h>

#include <utility>

namespace fastspan {
namespace {

constexpr size_t kLargePage = size_t{2} << 20;

}  // namespace

Memory::Memory(size_t bytes) {
  const bool large = bytes >= kLargePage;
  const size_t whole = large ? (bytes + kLargePage - 1) / kLargePage * kLargePage : (bytes + 4095) / 4096 * 4096;
  if (whole < bytes) return;
  // One page more, so that the block can begin at a page's start; what is not touched takes no memory.
  const size_t reserved = large ? whole + kLargePage : whole;
  void* at = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return;
  char* begin = static_cast<char*>(at);
  if (large) {
    const size_t address = reinterpret_cast<size_t>(begin);
    const size_t before = (kLargePage - address % kLargePage) % kLargePage;
    if (before > 0) munmap(begin, before);
    begin += before;
    if (reserved - before > whole) munmap(begin + whole, reserved - before - whole);
#ifdef MADV_HUGEPAGE
    madvise(begin, whole, MADV_HUGEPAGE);
#endif
  }
  data_ = begin;
  size_ = whole;
}

Memory::~Memory() {
  if (data_ != nullptr) munmap(data_, size_);
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace fastspan
