// What every file of a path begins with.
//
// Everything that such a file includes is inlined into it or local to it. A function with a name of its own, made
// for AVX-512, could otherwise be the one copy that the linker keeps for all paths.
#pragma once
#include <cstddef>
#include <cstdint>

#include "model.h"

#define FS_INLINE __attribute__((always_inline)) inline
#define FS_LAMBDA __attribute__((always_inline))

namespace {
using namespace fastspan;
}
