// The parts of BP-STDP, for one layer pair and for networks. Slots are steps and samples, k = (t - t0) B + b, and sums go over
// them in this order.
#pragma once
#include <cstdint>

#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int kThreads = 256;

inline unsigned blocks_of(int64_t elements) { return static_cast<unsigned>((elements + kThreads - 1) / kThreads); }

__device__ inline int64_t element() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }

// Spikes of N neurons for B samples, wherever they lie.
struct Trains {
  const void* data;
  int64_t step, sample;  // elements from one to the next
  int64_t N, B;
  int32_t width;  // bytes of a spike
};

__device__ inline bool fires(const Trains& x, int64_t t, int64_t b, int64_t n) {
  const int64_t at = t * x.step + b * x.sample + n;
  switch (x.width) {
    case 1: return static_cast<const uint8_t*>(x.data)[at] != 0;
    case 4: return (static_cast<const uint32_t*>(x.data)[at] & 0x7fffffffu) != 0;  // -0 is no spike
    default: return (static_cast<const uint64_t*>(x.data)[at] & 0x7fffffffffffffffull) != 0;
  }
}

// Spikes in the window of epsilon + 1 steps: running counts [B, N], and those of every slot [slots, N].
template <class C>
__global__ void __launch_bounds__(kThreads) bp_stdp_windows_kernel(const Trains x, int64_t epsilon, int64_t t0, int64_t t1, int32_t* counts, C* windows) {
  const int64_t e = element();
  if (e >= x.B * x.N) return;
  const int64_t b = e / x.N, n = e % x.N;
  int32_t count = counts[e];
  for (int64_t t = t0; t < t1; t++) {
    count += fires(x, t, b, n);
    if (t > epsilon) count -= fires(x, t - epsilon - 1, b, n);
    windows[(t - t0) * x.B * x.N + e] = static_cast<C>(count);
  }
  counts[e] = count;
}

// passed[k, i] = sum of error[k, o] w[o, i] over o, where a spike is in the window.
template <class C>
__global__ void __launch_bounds__(kThreads)
    bp_stdp_pass_back_kernel(const C* w, int64_t I, int64_t O, const C* error, const C* windows, int64_t slots, C* passed) {
  const int64_t e = element();
  if (e >= slots * I) return;
  const int64_t k = e / I, i = e % I;
  C total = 0;
  if (windows[e] > 0)
    for (int64_t o = 0; o < O; o++) {
      const C factor = error[k * O + o];
      if (factor != 0) total += factor * w[o * I + i];
    }
  passed[e] = total;
}

// w[o, i] += (scale error[k, o]) windows[k, i] for one k after the other.
template <class C>
__global__ void __launch_bounds__(kThreads) bp_stdp_weights_kernel(C* w, int64_t I, int64_t O, const C* error, C scale, const C* windows, int64_t slots) {
  const int64_t e = element();
  if (e >= O * I) return;
  const int64_t o = e / I, i = e % I;
  C weight = w[e];
  for (int64_t k = 0; k < slots; k++) {
    const C factor = error[k * O + o];
    if (factor != 0) weight += (scale * factor) * windows[k * I + i];
  }
  w[e] = weight;
}

template <class C>
void launch_windows(const Trains& x, int64_t epsilon, int64_t t0, int64_t t1, int32_t* counts, C* windows, cudaStream_t stream) {
  if (x.B * x.N > 0) SNNFAST_LAUNCH((bp_stdp_windows_kernel<C>), blocks_of(x.B * x.N), kThreads, 0, stream, x, epsilon, t0, t1, counts, windows);
}

template <class C>
void launch_pass_back(const C* w, int64_t I, int64_t O, const C* error, const C* windows, int64_t slots, C* passed, cudaStream_t stream) {
  if (slots * I > 0) SNNFAST_LAUNCH((bp_stdp_pass_back_kernel<C>), blocks_of(slots * I), kThreads, 0, stream, w, I, O, error, windows, slots, passed);
}

template <class C>
void launch_weights(C* w, int64_t I, int64_t O, const C* error, C scale, const C* windows, int64_t slots, cudaStream_t stream) {
  if (O * I > 0) SNNFAST_LAUNCH((bp_stdp_weights_kernel<C>), blocks_of(O * I), kThreads, 0, stream, w, I, O, error, scale, windows, slots);
}

}  // namespace
}  // namespace snnfast
