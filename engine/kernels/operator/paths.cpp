#include "paths.h"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace fastspan {

namespace {

bool always() { return true; }

#if defined(__x86_64__)

struct Registers {
  unsigned a, b, c, d;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r = {0, 0, 0, 0};
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
  return r;
}

bool bit(unsigned value, int n) { return (value >> n & 1) != 0; }

// Whether the system saves these parts of a thread's state, which the CPU having the instructions does not say.
bool system_saves(unsigned mask) {
  if (!bit(cpuid(1, 0).c, 27)) return false;
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & mask) == mask;
}

constexpr unsigned kYmm = 0x6, kZmm = 0xe6, kTiles = 0x60000;

[[maybe_unused]] bool has_avx2() { return system_saves(kYmm) && bit(cpuid(1, 0).c, 12) && bit(cpuid(7, 0).b, 5); }

[[maybe_unused]] bool has_avx512_vnni() {
  const Registers r = cpuid(7, 0);
  // F, DQ, BW, VL and VNNI.
  return has_avx2() && system_saves(kZmm) && bit(r.b, 16) && bit(r.b, 17) && bit(r.b, 30) && bit(r.b, 31) && bit(r.c, 11);
}

[[maybe_unused]] bool has_avx_vnni() { return has_avx2() && bit(cpuid(7, 1).a, 4); }

// The kernel gives a process the use of tiles only when it asks. Asking twice does no harm.
[[maybe_unused]] bool has_amx() {
  const Registers r = cpuid(7, 0);
  if (!has_avx512_vnni() || !bit(r.d, 24) || !bit(r.d, 25) || !system_saves(kTiles)) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

#elif defined(__aarch64__) && defined(__linux__)

// Bits of the kernel's lists of what the CPU has.
constexpr unsigned long kDotProduct = 1ul << 20, kI8mm = 1ul << 13;

[[maybe_unused]] bool has_dot_product() { return (getauxval(AT_HWCAP) & kDotProduct) != 0; }
[[maybe_unused]] bool has_i8mm() { return has_dot_product() && (getauxval(AT_HWCAP2) & kI8mm) != 0; }

#elif defined(__aarch64__) && defined(__APPLE__)

bool has(const char* feature) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dot_product() { return has("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has_dot_product() && has("hw.optional.arm.FEAT_I8MM"); }

#endif

}  // namespace

// A path that the compiler was too old for is left out by setup.py.
const Candidate kCandidates[] = {
#if defined(__x86_64__)
#ifndef FS_WITHOUT_path_amx
    {&kAmx, has_amx},
#endif
#ifndef FS_WITHOUT_path_avx512vnni
    {&kAvx512Vnni, has_avx512_vnni},
#endif
#ifndef FS_WITHOUT_path_avxvnni
    {&kAvxVnni, has_avx_vnni},
#endif
#ifndef FS_WITHOUT_path_avx2
    {&kAvx2, has_avx2},
#endif
#elif defined(__aarch64__)
#ifndef FS_WITHOUT_path_neoni8mm
    {&kNeonI8mm, has_i8mm},
#endif
#ifndef FS_WITHOUT_path_neondot
    {&kNeonDot, has_dot_product},
#endif
#endif
    {&kPortable, always},
};
const int kCandidateCount = sizeof kCandidates / sizeof kCandidates[0];

const Path* find_path(const char* name) {
  for (int i = 0; i < kCandidateCount; ++i) {
    const bool asked = *name == 0 || std::strcmp(name, kCandidates[i].path->name) == 0;
    if (asked && kCandidates[i].runs_here()) return kCandidates[i].path;
  }
  return nullptr;
}

}  // namespace fastspan
