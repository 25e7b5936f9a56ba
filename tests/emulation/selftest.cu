// Kernels that use what the emulator has to get right: barriers, shared memory, shuffles, ballots, atomics, grids whose
// blocks wait for each other, clusters.
#include "cuda/cluster_tally.cuh"
#include "cuda/launch.h"
#include "cuda/teams.cuh"
#include "cuda/tiles.cuh"
#include "cuda/error.cu"
#include <cstdint>

__global__ void bodiless_kernel(int) {}

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
// Every step moves all values one place to the left, across blocks, by way of shared memory; totals[s] is asked for lag
// steps later.
__global__ void rotate_kernel(int* x, int* y, int64_t n, int64_t steps, int64_t lag, snnfast::TallyWord* words,
                              int64_t* totals) {
  __shared__ int mine[32];
  __shared__ int64_t asked;
  const snnfast::GridTally tally(words, lag, blockIdx.x, gridDim.x);
  const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  for (int64_t s = 0; s < steps; s++) {
    const int* from = s % 2 ? y : x;
    int* to = s % 2 ? x : y;
    mine[threadIdx.x] = from[(i + 1) % n];
    __syncthreads();
    to[i] = mine[threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) {
      if (s >= lag) asked = tally.total(s - lag);
      if (s >= lag && blockIdx.x == s % gridDim.x) totals[s - lag] = asked;
      tally.post(s, s + blockIdx.x);
      tally.total(s);
    }
    __syncthreads();
  }
}
// As far as blocks may be from each other: lag steps.
__global__ void ahead_kernel(int* step, int64_t steps, int64_t lag, snnfast::TallyWord* words, int* farthest,
                             int64_t* totals) {
  const snnfast::GridTally tally(words, lag, blockIdx.x, gridDim.x);
  for (int64_t s = 0; s < steps; s++) {
    if (s >= lag) {
      const int64_t total = tally.total(s - lag);
      if (blockIdx.x == s % gridDim.x) totals[s - lag] = total;
    }
    for (unsigned b = 0; b < gridDim.x; b++) atomicMax(farthest, (int)s - atomicAdd(step + b, 0));
    atomicExch(step + blockIdx.x, (int)s + 1);
    tally.post(s, s * blockIdx.x);
  }
}
__global__ void absent_kernel(snnfast::TallyWord* words) {  // block 1 goes without a word
  if (blockIdx.x == 1) return;
  const snnfast::GridTally tally(words, 1, blockIdx.x, gridDim.x);
  if (threadIdx.x == 0) {
    tally.post(0, 1);
    tally.total(0);
  }
  __syncthreads();
}
// Every step each block tells the others of its number and the step, and leaves them a note of both.
__global__ void told_kernel(int64_t steps, int64_t lag, int64_t* totals, int64_t* notes) {
  SNNFAST_DYN_SHARED(snnfast::TallyWord, words);
  int64_t* left = reinterpret_cast<int64_t*>(words + snnfast::ClusterTally::words(lag, gridDim.x));
  snnfast::ClusterTally tally(words, lag, blockIdx.x, gridDim.x);
  tally.begin();
  for (int64_t s = 0; s < steps; s++) {
    int64_t total = s >= lag ? tally.total(s - lag) : 0;
    if (threadIdx.x == 0 && s >= lag && blockIdx.x == s % gridDim.x) totals[s - lag] = total;
    if (threadIdx.x < 32) tally.post_note(left, s, (int64_t)(100 * s + blockIdx.x));
    tally.post(s, s + blockIdx.x);
    if (lag > 1) continue;
    tally.total(s);
    if (threadIdx.x == 0)
      for (unsigned b = 0; b < gridDim.x; b++)
        notes[(s * gridDim.x + blockIdx.x) * gridDim.x + b] = tally.notes_of(left, s)[b];
  }
  tally.end();
}
enum Mistake { kNoBegin, kNoEnd, kTwice, kNotArrived, kOneStays };
__global__ void mistaken_kernel(Mistake mistake) {
  SNNFAST_DYN_SHARED(int, memory);
  const auto meet = [] { cluster_arrive(), cluster_wait(); };
  if (mistake == kTwice) cluster_arrive(), cluster_arrive();
  if (mistake == kNotArrived) cluster_wait();
  if (mistake == kOneStays && blockIdx.x == 1 && threadIdx.x == 0) return;
  if (mistake != kNoBegin) meet();
  if (mistake == kNoEnd && blockIdx.x == 0) return;
  if (mistake == kNoEnd) emulation::spin();  // block 0 ends first
  *in_block(memory, (blockIdx.x + 1) % gridDim.x) = 1;
  meet();
}
extern "C" {
int st_told(int blocks, int64_t steps, int64_t lag, int64_t* totals, int64_t* notes) {
  const size_t bytes = 8 * (snnfast::ClusterTally::words(lag, blocks) + snnfast::tally_places(lag) * blocks);
  snnfast::launch_clusters(blocks, blocks, 64, bytes, nullptr, told_kernel, steps, lag, totals, notes);
  return cudaGetLastError();
}
int st_mistaken(int mistake) {
  try {
    snnfast::launch_clusters(2, 2, 32, 4, nullptr, mistaken_kernel, (Mistake)mistake);
  } catch (const std::exception& e) {
    fprintf(stderr, "%s\n", e.what());
    return -1;
  }
  return 0;
}
int st_clusters() {
  snnfast::TeamDevice on;
  on.ask(snnfast::TeamKernels<int>{bodiless_kernel, bodiless_kernel});
  return on.clusters;
}
// Blocks of clusters of 2 that are resident; -1 if an error is left for the next launch.
int64_t st_resident_clusters() {
  snnfast::TeamDevice on;
  on.ask(snnfast::TeamKernels<int>{bodiless_kernel, bodiless_kernel});
  int64_t blocks = -1;
  const snnfast::Teams pairs{32, 2, 1, 1, true, true, true, 0, 0};
  const cudaError_t error = snnfast::resident_blocks(bodiless_kernel, on, pairs, blocks);
  return error == cudaSuccess && cudaPeekAtLastError() == cudaSuccess ? blocks : -1;
}
int st_rotate(int* x, int* y, int blocks, int64_t steps, int64_t lag, uint64_t* words, int64_t* totals) {
  snnfast::launch_cooperative(blocks, 32, 0, nullptr, rotate_kernel, x, y, blocks * 32, steps, lag,
                              (snnfast::TallyWord*)words, totals);
  return cudaGetLastError();
}
int st_ahead(int* step, int blocks, int64_t steps, int64_t lag, uint64_t* words, int* farthest, int64_t* totals) {
  snnfast::launch_cooperative(blocks, 1, 0, nullptr, ahead_kernel, step, steps, lag, (snnfast::TallyWord*)words,
                              farthest, totals);
  return cudaGetLastError();
}
int st_absent(uint64_t* words) {
#ifdef SNNFAST_CUDA_EMULATION
  try {
    snnfast::launch_cooperative(3, 32, 0, nullptr, absent_kernel, (snnfast::TallyWord*)words);
  } catch (const std::exception& e) {
    fprintf(stderr, "%s\n", e.what());
    return -1;
  }
#endif
  return 0;
}
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
