// What Python asks before it registers the library: which paths run here, and whether one computes what it should.
#include <cstring>
#include <string>

#include "paths.h"
#include "toy.h"

namespace fastspan {
namespace {

// Of the logits' bits on the portable path, found with `make test-kernels`. Every path gives the same bits.
constexpr uint64_t kExpected = 0x4fecfc058907bd1cull;

uint64_t hash(const std::vector<float>& values, uint64_t h) {
  for (float v : values) {
    uint32_t bits;
    std::memcpy(&bits, &v, sizeof bits);
    h = (h ^ bits) * 0x100000001b3ull;
  }
  return h;
}

// Windows that fill a block and that do not, heads that fill a panel together, groups, an input between its extremes.
uint64_t logits_hash(const Path& path) {
  ToySizes sizes;
  sizes.hidden = 128, sizes.heads = 4, sizes.inner = 256, sizes.inner_group = 128, sizes.layers = 2;
  const Toy toy(sizes);
  Runner runner(path, 1);
  if (!runner.load(toy.attributes(), toy.tensors()).empty()) return 0;
  ToyInput input(sizes, {5, 70, 1}, 7);
  if (!runner.run(input.run(), nullptr, nullptr).empty()) return 0;
  return hash(input.end, hash(input.start, 0xcbf29ce484222325ull));
}

std::string names(bool all) {
  std::string text;
  for (int i = 0; i < kCandidateCount; ++i) {
    if (!all && !kCandidates[i].runs_here()) continue;
    text += (text.empty() ? "" : " ") + std::string(kCandidates[i].path->name);
  }
  return text;
}

}  // namespace
}  // namespace fastspan

#define FS_EXPORT extern "C" __attribute__((visibility("default")))

// Raised whenever the operator's format or these functions change.
FS_EXPORT int fastspan_kernels_version() noexcept { return 3; }

// Paths that this CPU can run, fastest first, parted by spaces. The first is the one that is used.
FS_EXPORT const char* fastspan_kernels_paths() noexcept {
  static const std::string text = fastspan::names(false);
  return text.c_str();
}

// Paths that this library was compiled with.
FS_EXPORT const char* fastspan_kernels_compiled_paths() noexcept {
  static const std::string text = fastspan::names(true);
  return text.c_str();
}

// 0: this path computes the stored numbers. 1: it is not here, or this CPU cannot run it. 2: it computes others.
// An empty name is the path that is used.
FS_EXPORT int fastspan_kernels_self_test(const char* name) noexcept {
  try {
    const fastspan::Path* path = fastspan::find_path(name);
    if (path == nullptr) return 1;
    return fastspan::logits_hash(*path) == fastspan::kExpected ? 0 : 2;
  } catch (...) {
    return 2;
  }
}

// For whoever changes the arithmetic on purpose: the number to store.
FS_EXPORT unsigned long long fastspan_kernels_self_test_result(const char* name) noexcept {
  try {
    const fastspan::Path* path = fastspan::find_path(name);
    return path == nullptr ? 0 : fastspan::logits_hash(*path);
  } catch (...) {
    return 0;
  }
}
