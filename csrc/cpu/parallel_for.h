// A loop that the caller may spread over threads.
#pragma once
#include <cstdint>

namespace snnfast::cpu {

// Calls body(context, begin, end) for ranges of [0, n) of at least `grain`.
using ParallelFor = void (*)(int64_t n, int64_t grain, const void* context,
                             void (*body)(const void* context, int64_t begin, int64_t end));

}  // namespace snnfast::cpu
