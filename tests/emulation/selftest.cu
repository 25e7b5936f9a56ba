// Kernels that use what the emulator has to get right: barriers, shared memory, shuffles, ballots, atomics.
#include "cuda/launch.h"
#include "cuda/tiles.cuh"
#include "cuda/error.cu"
#include <cstdint>

template <int TILE>
__global__ void transpose_kernel(const float* __restrict__ in, float* __restrict__ out, int rows, int cols) {
  __shared__ float tile[TILE][TILE + 1];
  int x = blockIdx.x * TILE + threadIdx.x, y = blockIdx.y * TILE + threadIdx.y;
  if (x < cols && y < rows) tile[threadIdx.y][threadIdx.x] = in[(int64_t)y * cols + x];
  __syncthreads();
  x = blockIdx.y * TILE + threadIdx.x;
  y = blockIdx.x * TILE + threadIdx.y;
  if (x < rows && y < cols) out[(int64_t)y * rows + x] = tile[threadIdx.x][threadIdx.y];
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
__global__ void __launch_bounds__(256) sum_kernel(const float* x, float* out, int64_t n) {
  SNNFAST_DYN_SHARED(float, part);
  float v = 0;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x)
    v += x[i];
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 32) {
    v = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0.f;
    v = warp_sum(v);
    if (threadIdx.x == 0) atomicAdd(out, v);
  }
}
__global__ void pack_kernel(const float* s, uint32_t* bits, int* count, int64_t n) {
  int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  unsigned b = __ballot_sync(0xffffffffu, i < n && s[i] != 0.f);
  if (threadIdx.x % 32 == 0 && i < n) {
    bits[i / 32] = b;
    atomicAdd(count, __popc(b));
  }
}
__global__ void scan_kernel(const int* in, int* out) {  // one warp, inclusive scan
  int v = in[threadIdx.x];
  for (int d = 1; d < 32; d <<= 1) {
    int u = __shfl_up_sync(~0u, v, d);
    if ((int)threadIdx.x >= d) v += u;
  }
  out[threadIdx.x] = v;
}
__global__ void halves_kernel(int* out) {  // two halves of a warp diverge, each with its own mask and trip count
  unsigned lane = threadIdx.x, m = lane < 16 ? 0xffffu : 0xffff0000u;
  int v = lane;
  for (int r = 0; r < (lane < 16 ? 3 : 5); r++) v += __shfl_xor_sync(m, v, 1 << (r & 3));
  __syncwarp();
  out[lane] = v + __shfl_sync(~0u, v, 31 - lane);
}
__global__ void racy_kernel(const float* in, float* out) {  // the barrier is missing
  __shared__ float s[128];
  s[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = s[127 - threadIdx.x];
}
// Each thread copies four numbers, in two groups, and reads what its right neighbour copied first; a step of it may be
// missing.
template <bool Waits, bool Meets>
__global__ void copy_kernel(const float* in, float* out) {
  __shared__ __align__(16) float first[32 * 4];
  __shared__ __align__(16) float second[32 * 4];
  const unsigned i = threadIdx.x, right = (i + 1) % 32;
  snnfast::copy_async<16>(snnfast::shared_address(first + 4 * i), in + 4 * i);
  snnfast::copies_commit();
  snnfast::copy_async<16>(snnfast::shared_address(second + 4 * i), in + 4 * i);
  snnfast::copies_commit();
  if (Waits) snnfast::copies_wait<1>();
  if (Meets) __syncwarp();
  for (int k = 0; k < 4; k++) out[4 * i + k] = first[4 * right + k];
  out[128 + i] = second[4 * i];  // before its group has come
  snnfast::copies_wait<0>();
  out[160 + i] = second[4 * i];
}
__global__ void unwritten_kernel(float* out) {  // a block may not find what another one left
  __shared__ float once[2];
  out[2 * blockIdx.x] = once[0];
  once[0] = once[1] = 1.f;
  out[2 * blockIdx.x + 1] = once[1];
}
__global__ void stuck_kernel(int* out) {  // half of a warp waits for lanes that never come
  if (threadIdx.x < 16)
    out[threadIdx.x] = __shfl_sync(~0u, (int)threadIdx.x, 0);
  else
    __syncthreads();
}
__global__ void many_barriers_kernel(float* x, int n) {
  for (int i = 0; i < n; i++) {
    x[blockIdx.x * blockDim.x + threadIdx.x] += 1.f;
    __syncthreads();
  }
}
__global__ void oob_kernel(float* x, int n) {
  if (threadIdx.x <= n) x[threadIdx.x] = 1.f;
}  // off by one
extern "C" {
int st_oob(int n) {
  float* p = new float[n];
  SNNFAST_LAUNCH(oob_kernel, 1, 128, 0, nullptr, p, n);
  delete[] p;
  return 0;
}
int st_transpose(const float* a, float* b, int r, int c) {
  SNNFAST_LAUNCH((transpose_kernel<32>), dim3((c + 31) / 32, (r + 31) / 32), dim3(32, 32), 0, nullptr, a, b, r, c);
  return cudaGetLastError();
}
int st_sum(const float* x, float* o, int64_t n, int grid) {
  SNNFAST_LAUNCH(sum_kernel, grid, 256, 8 * sizeof(float), nullptr, x, o, n);
  return cudaGetLastError();
}
int st_pack(const float* s, uint32_t* b, int* c, int64_t n) {
  SNNFAST_LAUNCH(pack_kernel, (unsigned)((n + 127) / 128), 128, 0, nullptr, s, b, c, n);
  return cudaGetLastError();
}
int st_scan(const int* a, int* b) {
  SNNFAST_LAUNCH(scan_kernel, 1, 32, 0, nullptr, a, b);
  return cudaGetLastError();
}
int st_halves(int* o) {
  SNNFAST_LAUNCH(halves_kernel, 1, 32, 0, nullptr, o);
  return cudaGetLastError();
}
int st_racy(const float* a, float* b) {
  SNNFAST_LAUNCH(racy_kernel, 1, 128, 0, nullptr, a, b);
  return cudaGetLastError();
}
int st_copy(const float* a, float* o, int waits, int meets) {
  if (waits && meets)
    SNNFAST_LAUNCH((copy_kernel<true, true>), 1, 32, 0, nullptr, a, o);
  else if (waits)
    SNNFAST_LAUNCH((copy_kernel<true, false>), 1, 32, 0, nullptr, a, o);
  else
    SNNFAST_LAUNCH((copy_kernel<false, true>), 1, 32, 0, nullptr, a, o);
  return cudaGetLastError();
}
int st_unwritten(float* o, int blocks) {
  SNNFAST_LAUNCH(unwritten_kernel, blocks, 1, 0, nullptr, o);
  return cudaGetLastError();
}
int st_barriers(float* x, int blocks, int threads, int n) {
  SNNFAST_LAUNCH(many_barriers_kernel, blocks, threads, 0, nullptr, x, n);
  return cudaGetLastError();
}
int st_toobig() {
  SNNFAST_LAUNCH(scan_kernel, 1, 2048, 0, nullptr, nullptr, nullptr);
  return cudaGetLastError();
}
// The text of an error with a driver for this CUDA, after a launch whose error was not asked for; returns that error.
int st_error(int driver, int error, char* text, int size) {
#ifdef SNNFAST_CUDA_EMULATION
  emulation::driver_version = driver;
#endif
  SNNFAST_LAUNCH(scan_kernel, 1, 2048, 0, nullptr, nullptr, nullptr);
  snprintf(text, static_cast<size_t>(size), "%s", snnfast::cuda_error(error).c_str());
  return cudaPeekAtLastError();
}
int st_fills(int64_t N, int64_t bytes, int pairs) {
  return snnfast::fills(N, bytes, pairs ? snnfast::kStepsOfPairs : snnfast::kStepsThatFill, snnfast::kBytesInFlight);
}
int st_stuck(int* o) {
#ifdef SNNFAST_CUDA_EMULATION
  try {
    SNNFAST_LAUNCH(stuck_kernel, 1, 32, 0, nullptr, o);
  } catch (const std::exception& e) {
    fprintf(stderr, "%s\n", e.what());
    return -1;
  }
#endif
  return 0;
}
}
