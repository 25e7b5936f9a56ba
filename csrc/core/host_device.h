#pragma once
#include <cstdint>

// SNNFAST_UNROLL: loops over the few states and parameters of a neuron must be unrolled before the loop over neurons is
// vectorised. SNNFAST_SIMD: no iteration of this CPU loop reads what another one writes.
#if defined(__CUDACC__)
#define SNNFAST_HD __host__ __device__ __forceinline__
#define SNNFAST_UNROLL _Pragma("unroll")
#else
#define SNNFAST_HD inline __attribute__((always_inline))
#define SNNFAST_UNROLL _Pragma("GCC unroll 64")
#define SNNFAST_SIMD _Pragma("GCC ivdep")
#endif

namespace snnfast {
namespace {

// For sizes. The standard library's are templates, which csrc/cpu avoids. Floats are deleted: they would be truncated.
SNNFAST_HD constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
SNNFAST_HD constexpr int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
double min(double, double) = delete;
double max(double, double) = delete;

}  // namespace
}  // namespace snnfast
