// BP-STDP of one layer pair. Slots are steps and samples, k = (t - t0) B + b, and sums go over them in this order.
#include "core/bp_stdp.h"

#include "cuda/presentations.cuh"

namespace snnfast {
namespace {

constexpr int kThreads = 256;

__device__ inline int64_t element() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }

// Spikes [T, B, N].
struct Trains {
  const void* data;
  int64_t N, B;
  int32_t width;  // bytes of a spike

  __device__ bool fires(int64_t t, int64_t e) const { return is_spike(data, width, t * B * N + e); }
};

// Spikes in the window of epsilon + 1 steps: running counts [B, N], and the counts of every slot [slots, N].
template <class C>
__global__ void __launch_bounds__(kThreads)
    bp_stdp_windows_kernel(const Trains x, int64_t epsilon, int64_t t0, int64_t t1, int32_t* counts, C* windows) {
  const int64_t e = element();
  if (e >= x.B * x.N) return;
  int32_t count = counts[e];
  for (int64_t t = t0; t < t1; t++) {
    count += x.fires(t, e);
    if (t > epsilon) count -= x.fires(t - epsilon - 1, e);
    windows[(t - t0) * x.B * x.N + e] = static_cast<C>(count);
  }
  counts[e] = count;
}

// passed[k, i] = sum of error[k, o] w[o, i] over o, or 0 if the window of i has no spike.
template <class C>
__global__ void __launch_bounds__(kThreads) bp_stdp_pass_back_kernel(const C* w, int64_t I, int64_t O, const C* error,
                                                                     const C* windows, int64_t slots, C* passed) {
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

// w[o, i] += (scale error[k, o]) windows[k, i], for k in order.
template <class C>
__global__ void __launch_bounds__(kThreads)
    bp_stdp_weights_kernel(C* w, int64_t I, int64_t O, const C* error, C scale, const C* windows, int64_t slots) {
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
int run(const BpStdp& a, cudaStream_t stream) {
  const Trains pre{a.pre, a.I, a.B, a.width};
  C *w = static_cast<C*>(a.w), *windows = static_cast<C*>(a.windows);
  for (int64_t t0 = 0; t0 < a.T; t0 += a.span) {
    const int64_t t1 = min(t0 + a.span, a.T), slots = (t1 - t0) * a.B;
    const C* error = static_cast<const C*>(a.error) + t0 * a.B * a.O;
    SNNFAST_LAUNCH(bp_stdp_windows_kernel<C>, blocks_of(a.B * a.I, kThreads), kThreads, 0, stream, pre, a.epsilon, t0,
                   t1, static_cast<int32_t*>(a.counts), windows);
    if (a.passed) {
      C* passed = static_cast<C*>(a.passed) + t0 * a.B * a.I;
      SNNFAST_LAUNCH(bp_stdp_pass_back_kernel<C>, blocks_of(slots * a.I, kThreads), kThreads, 0, stream, w, a.I, a.O,
                     error, windows, slots, passed);
    }
    if (a.O > 0)
      SNNFAST_LAUNCH(bp_stdp_weights_kernel<C>, blocks_of(a.O * a.I, kThreads), kThreads, 0, stream, w, a.I, a.O, error,
                     static_cast<C>(a.scale), windows, slots);
  }
  return cudaGetLastError();
}

}  // namespace

int launch_bp_stdp(const BpStdp& a, void* stream) {
  return a.is_double ? run<double>(a, static_cast<cudaStream_t>(stream))
                     : run<float>(a, static_cast<cudaStream_t>(stream));
}

}  // namespace snnfast
