#include "core/poisson.h"

#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int kThreads = 256;
constexpr int kCounters = 4;  // a thread; neighbouring threads take neighbouring counters, so that a warp stores one run
constexpr int64_t kStride = 4 * kThreads;

template <class T>
struct alignas(sizeof(T) * 4 < 16 ? sizeof(T) * 4 : 16) Four {
  T at[4];
};

// Whole: rows are whole counters and p is aligned, so that four elements are one row's and are loaded at once.
// Index: what counts the elements; 64-bit division costs as much as the random numbers.
template <class Bits, class Index, bool Whole>
__global__ void __launch_bounds__(kThreads) poisson_kernel(const Poisson a) {
  const int64_t seed = *a.seed;
  const Bits one = static_cast<Bits>(a.one);
  const Index N = static_cast<Index>(a.N), step = static_cast<Index>(kStride % a.N);
  int64_t e = static_cast<int64_t>(blockIdx.x) * (kStride * kCounters) + 4 * static_cast<int64_t>(threadIdx.x);
  Index n = static_cast<Index>(e) % N;
#pragma unroll
  for (int u = 0; u < kCounters; u++) {
    if (e >= a.total) return;
    const Words<uint32_t> drawn = poisson_words(e / 4, seed);
    const uint32_t words[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
    Four<Bits> spikes;
    Bits* out = static_cast<Bits*>(a.spikes) + e;
    if constexpr (Whole) {
      const Four<float> p = *reinterpret_cast<const Four<float>*>(a.p + n);
#pragma unroll
      for (int k = 0; k < 4; k++) spikes.at[k] = poisson_fires(poisson_uniform(words[k]), p.at[k]) ? one : Bits(0);
    } else {
      Index m = n;
#pragma unroll
      for (int k = 0; k < 4; k++) {
        spikes.at[k] = poisson_fires(poisson_uniform(words[k]), a.p[m]) ? one : Bits(0);
        m = m + 1 == N ? 0 : m + 1;
      }
    }
    if (e + 4 <= a.total) {
      *reinterpret_cast<Four<Bits>*>(out) = spikes;  // allocations are aligned and e is a multiple of 4
    } else {
#pragma unroll
      for (int k = 0; k < 3; k++)
        if (e + k < a.total) out[k] = spikes.at[k];
    }
    e += kStride;
    n = n >= N - step ? n - (N - step) : n + step;
  }
}

template <class Bits, class Index, bool Whole>
int launch_as(const Poisson& a, cudaStream_t stream) {
  const int64_t blocks = (a.total + kStride * kCounters - 1) / (kStride * kCounters);
  SNNFAST_LAUNCH((poisson_kernel<Bits, Index, Whole>), static_cast<unsigned>(blocks), kThreads, 0, stream, a);
  return cudaGetLastError();
}

template <class Bits>
int launch(const Poisson& a, cudaStream_t stream) {
  const bool whole = a.N % 4 == 0 && reinterpret_cast<uintptr_t>(a.p) % 16 == 0;
  if (a.total < (int64_t{1} << 31)) return whole ? launch_as<Bits, uint32_t, true>(a, stream) : launch_as<Bits, uint32_t, false>(a, stream);
  return whole ? launch_as<Bits, int64_t, true>(a, stream) : launch_as<Bits, int64_t, false>(a, stream);
}

}  // namespace

int launch_poisson(const Poisson& a, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  switch (a.width) {
    case 1: return launch<uint8_t>(a, stream);
    case 2: return launch<uint16_t>(a, stream);
    case 4: return launch<uint32_t>(a, stream);
    default: return launch<uint64_t>(a, stream);
  }
}

}  // namespace snnfast
