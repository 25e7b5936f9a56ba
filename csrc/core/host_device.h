#pragma once
#if defined(__CUDACC__)
#define SNNFAST_HD __host__ __device__ __forceinline__
#else
#define SNNFAST_HD inline __attribute__((always_inline))
#endif
