// What lets one .cu source compile with nvcc and, for tests, with a host compiler against csrc/cuda_emulation.
#pragma once
#include <cuda_runtime.h>
#ifdef SNNFAST_CUDA_EMULATION
#define SNNFAST_LAUNCH(KERNEL, GRID, BLOCK, SMEM, STREAM, ...) ((void)(STREAM), emulation::launch((GRID), (BLOCK), (SMEM), [&] { KERNEL(__VA_ARGS__); }))
#define SNNFAST_DYN_SHARED(T, NAME) T* NAME = emulation::dyn_smem<T>()
#else
#define SNNFAST_LAUNCH(KERNEL, GRID, BLOCK, SMEM, STREAM, ...) KERNEL<<<(GRID), (BLOCK), (SMEM), (STREAM)>>>(__VA_ARGS__)
#define SNNFAST_DYN_SHARED(T, NAME)                                  \
  extern __shared__ __align__(16) unsigned char snnfast_dyn_smem_[]; \
  T* NAME = reinterpret_cast<T*>(snnfast_dyn_smem_)
#endif
