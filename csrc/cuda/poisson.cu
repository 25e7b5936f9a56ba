#include "core/poisson.h"

#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int kThreads = 256;
constexpr int kCounters = 4, kElements = 4 * kCounters;  // of a thread

// Elements that a thread stores at once: 16 bytes, but at least a counter's four.
template <class Bits>
constexpr int kRun = sizeof(Bits) > 4 ? 4 : static_cast<int>(16 / sizeof(Bits));

template <class Bits>
struct alignas(16) Run {
  Bits at[kRun<Bits>];
};

struct alignas(16) Four {
  float at[4];
};

// Distance between a thread's runs: neighbouring threads have neighbouring runs, so that the stores of a warp are
// contiguous.
template <class Bits>
constexpr int64_t kStride = static_cast<int64_t>(kRun<Bits>) * kThreads;

// Whole: rows are whole counters and p is aligned, so that four elements are in one row and their p are loaded at once.
// Index: type that counts the elements; 64-bit division costs as much as the random numbers.
template <class Bits, class Index, bool Whole>
__global__ void __launch_bounds__(kThreads) poisson_kernel(const Poisson a) {
  const int64_t seed = *a.seed;
  const Bits one = static_cast<Bits>(a.one);
  const Index N = static_cast<Index>(a.N), step = static_cast<Index>(kStride<Bits> % a.N);
  int64_t e =
      static_cast<int64_t>(blockIdx.x) * (kElements * kThreads) + kRun<Bits> * static_cast<int64_t>(threadIdx.x);
  Index n = static_cast<Index>(e) % N;
  Words<uint32_t> drawn[kCounters];
#pragma unroll
  for (int k = 0; k < kElements; k += 4)
    drawn[k / 4] = poisson_counter((e + k / kRun<Bits> * kStride<Bits> + k % kRun<Bits>) / 4);
  poisson_words(drawn, seed);
#pragma unroll
  for (int u = 0; u < kElements; u += kRun<Bits>) {
    if (e >= a.total) return;
    Run<Bits> spikes;
    Index m = n;
#pragma unroll
    for (int k = 0; k < kRun<Bits>; k += 4) {
      const Words<uint32_t>& of_counter = drawn[(u + k) / 4];
      const uint32_t words[4] = {of_counter.x, of_counter.y, of_counter.z, of_counter.w};
      Four p;
      if constexpr (Whole) p = *reinterpret_cast<const Four*>(a.p + m);
#pragma unroll
      for (int j = 0; j < 4; j++) {
        spikes.at[k + j] = poisson_fires(poisson_uniform(words[j]), Whole ? p.at[j] : a.p[m]) ? one : Bits(0);
        if (!Whole) m = m + 1 == N ? 0 : m + 1;
      }
      if (Whole) m = m + 4 == N ? 0 : m + 4;
    }
    Bits* out = static_cast<Bits*>(a.spikes) + e;
    if (e + kRun<Bits> <= a.total) {
      *reinterpret_cast<Run<Bits>*>(out) = spikes;  // allocations are aligned and e is a multiple of the run
    } else {
#pragma unroll
      for (int k = 0; k < kRun<Bits> - 1; k++)
        if (e + k < a.total) out[k] = spikes.at[k];
    }
    e += kStride<Bits>;
    n = n >= N - step ? n - (N - step) : n + step;
  }
}

template <class Bits, class Index, bool Whole>
int launch_as(const Poisson& a, cudaStream_t stream) {
  SNNFAST_LAUNCH((poisson_kernel<Bits, Index, Whole>), blocks_of(a.total, kElements * kThreads), kThreads, 0, stream,
                 a);
  return cudaGetLastError();
}

template <class Bits>
int launch(const Poisson& a, cudaStream_t stream) {
  const bool whole = a.N % 4 == 0 && reinterpret_cast<uintptr_t>(a.p) % 16 == 0;
  if (a.total < (int64_t{1} << 31))
    return whole ? launch_as<Bits, uint32_t, true>(a, stream) : launch_as<Bits, uint32_t, false>(a, stream);
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
