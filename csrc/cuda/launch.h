// Macros with which a .cu source compiles with nvcc and, for tests, with a host compiler against csrc/cuda_emulation.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "core/host_device.h"

namespace snnfast {

// Launches are planned for an H100: this number of bytes in flight saturates it, its 3.35 TB/s times the 630 ns of a
// load. No GPU takes more rows of blocks (gridDim.y). The emulated GPU is small: tests take both paths.
constexpr int64_t kBytesInFlight = int64_t{1} << 21;
#ifdef SNNFAST_CUDA_EMULATION
constexpr int64_t kBytesThatFill = 192, kMostRows = 1;
#else
constexpr int64_t kBytesThatFill = kBytesInFlight, kMostRows = 65535;
#endif

// Whether N neurons with `bytes` of input per step, `steps` of them in flight, fill such a GPU. If not, a scan over
// them uses as many threads as it can, one per neuron, and more steps in flight. Where 32 steps of 16 bits fill it,
// threads with a pair of neurons are a warp for each of its 528 schedulers, which is enough.
constexpr int64_t kStepsThatFill = 4, kStepsOfPairs = 32;
constexpr bool fills(int64_t N, int64_t bytes, int64_t steps, int64_t enough = kBytesThatFill) {
  return N * bytes * steps >= enough;
}

// Blocks of `threads` threads for n items.
constexpr unsigned blocks_of(int64_t n, int64_t threads) { return static_cast<unsigned>((n + threads - 1) / threads); }

// Rows of a grid, each of which processes every gridDim.y-th of `rows`.
constexpr unsigned grid_rows(int64_t rows) { return static_cast<unsigned>(min(rows, kMostRows)); }

}  // namespace snnfast

#ifdef SNNFAST_CUDA_EMULATION
#define SNNFAST_LAUNCH(KERNEL, GRID, BLOCK, SMEM, STREAM, ...) \
  ((void)(STREAM), emulation::launch((GRID), (BLOCK), (SMEM), [&] { KERNEL(__VA_ARGS__); }))
#define SNNFAST_DYN_SHARED(T, NAME) T* NAME = emulation::dyn_smem<T>()
#else
#define SNNFAST_LAUNCH(KERNEL, GRID, BLOCK, SMEM, STREAM, ...) \
  KERNEL<<<(GRID), (BLOCK), (SMEM), (STREAM)>>>(__VA_ARGS__)
#define SNNFAST_DYN_SHARED(T, NAME)                                  \
  extern __shared__ __align__(16) unsigned char snnfast_dyn_smem_[]; \
  T* NAME = reinterpret_cast<T*>(snnfast_dyn_smem_)
#endif

namespace snnfast {
namespace {

// a / b for numbers that are not negative: 64-bit division is many times as slow as 32-bit division.
__device__ __forceinline__ int64_t divided(int64_t a, int64_t b) {
  return (a | b) >> 32 ? a / b : static_cast<int64_t>(static_cast<uint32_t>(a) / static_cast<uint32_t>(b));
}

// Dynamic shared memory available to a block of a kernel. The kernel is allowed all of it, whatever a launch takes: two
// host threads may launch it with different sizes.
template <class Kernel>
cudaError_t allow_shared(Kernel kernel, int device, int64_t& room) {
  int most = 0;
  cudaFuncAttributes attributes{};
  cudaError_t error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, kernel);
  room = most - static_cast<int64_t>(attributes.sharedSizeBytes);
  if (error != cudaSuccess || room <= 0) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(room));
}

}  // namespace
}  // namespace snnfast
