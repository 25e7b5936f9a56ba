#pragma once
// SNNFAST_UNROLL: loops over the few states and parameters of a neuron must be gone before the loop over neurons is vectorised.
#if defined(__CUDACC__)
#define SNNFAST_HD __host__ __device__ __forceinline__
#define SNNFAST_UNROLL _Pragma("unroll")
#else
#define SNNFAST_HD inline __attribute__((always_inline))
#define SNNFAST_UNROLL _Pragma("GCC unroll 16")
#endif
