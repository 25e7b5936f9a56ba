// One thread per neuron or, with recurrence, one block per sample. In the backward pass one thread computes each sum,
// in the same order in every run.
#include "core/eventprop.h"

#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int kThreads = 128;

// The threads of a block.
struct Team {
  int64_t rank, size;
  void* shared;  // one number per warp

  __device__ void meet() const { __syncthreads(); }
  template <class C>
  __device__ C least(C x) const {
    C* of_warps = static_cast<C*>(shared);
    for (int distance = 16; distance > 0; distance /= 2) {
      const C other = __shfl_xor_sync(~0u, x, distance);
      x = other < x ? other : x;
    }
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
    __syncthreads();
    for (int w = 0; w < kThreads / 32; w++) x = of_warps[w] < x ? of_warps[w] : x;
    return x;  // all threads meet before the next call
  }
};

template <class C>
__global__ void __launch_bounds__(kThreads) eventprop_feedforward_kernel(const EventPropForward f) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= f.a.B * f.a.N) return;
  const int64_t b = i / f.a.N, n = i % f.a.N;
  const EventPropConstants<C> c(f.a);
  run_feedforward<C, 1>(f, c, b, n, 1, f.a.rows_of_neurons ? i : b, static_cast<const C*>(f.a.w_in) + n, f.a.N);
}

template <class C>
__global__ void __launch_bounds__(kThreads) eventprop_recurrent_kernel(const EventPropForward f) {
  __shared__ C of_warps[kThreads / 32];
  const EventPropConstants<C> c(f.a);
  run_recurrent<C>(f, c, blockIdx.x, Team{static_cast<int64_t>(threadIdx.x), kThreads, of_warps});
}

template <class C>
__global__ void __launch_bounds__(kThreads) eventprop_adjoints_kernel(const EventPropBackward f) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < f.a.B * f.a.N) set_anchors(f, EventPropConstants<C>(f.a), i / f.a.N, i % f.a.N);
}

template <class C>
__global__ void __launch_bounds__(kThreads)
    eventprop_recurrent_adjoints_kernel(const EventPropBackward f, int32_t* left) {
  const EventPropConstants<C> c(f.a);
  set_recurrent_anchors(f, c, blockIdx.x, left + blockIdx.x * f.a.N,
                        Team{static_cast<int64_t>(threadIdx.x), kThreads, nullptr});
}

template <class C>
__global__ void __launch_bounds__(kThreads) eventprop_weights_kernel(const EventPropBackward f) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= f.a.N * f.a.I) return;
  const EventPropConstants<C> c(f.a);
  const int64_t n = at / f.a.I, i = at % f.a.I;
  C sum = 0;
  for (int64_t b = 0; b < f.a.B; b++) {
    const Anchors<C> anchors(f, b, n);
    for (int64_t s = 0; anchors.count > 0 && s < f.a.S_in; s++)
      sum += pull(c, anchors, arrival_of<C>(f, b, n, i * f.a.S_in + s)).weight;
  }
  static_cast<C*>(f.grad_w)[at] = sum;
}

template <class C>
__global__ void __launch_bounds__(kThreads) eventprop_arrivals_kernel(const EventPropBackward f) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, E = f.a.I * f.a.S_in;
  if (at >= f.a.B * E * (f.a.rows_of_neurons ? f.a.N : 1)) return;
  const EventPropConstants<C> c(f.a);
  const int64_t e = at % E, row = at / E, b = f.a.rows_of_neurons ? row / f.a.N : row;
  const int64_t first = f.a.rows_of_neurons ? row % f.a.N : 0, last = f.a.rows_of_neurons ? first + 1 : f.a.N;
  C sum = 0;
  for (int64_t n = first; n < last; n++) {
    const C w = static_cast<const C*>(f.w)[n * f.a.I + e / f.a.S_in];
    sum += w * pull(c, Anchors<C>(f, b, n), arrival_of<C>(f, b, n, e)).time + kink<C>(f, b, n, e);
  }
  static_cast<C*>(f.grad_arrivals)[at] = sum;
}

template <class C>
__global__ void __launch_bounds__(kThreads) eventprop_recurrent_weights_kernel(const EventPropBackward f) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at < f.a.N * f.a.N) sum_recurrent(f, EventPropConstants<C>(f.a), at / f.a.N, at % f.a.N);
}

template <class C>
int forward(const EventPropForward& f, cudaStream_t stream) {
  const int64_t neurons = f.a.B * f.a.N;
  if (neurons == 0) return cudaGetLastError();
  if (f.a.w_rec)
    SNNFAST_LAUNCH((eventprop_recurrent_kernel<C>), static_cast<unsigned>(f.a.B), kThreads, 0, stream, f);
  else
    SNNFAST_LAUNCH((eventprop_feedforward_kernel<C>), blocks_of(neurons, kThreads), kThreads, 0, stream, f);
  return cudaGetLastError();
}

template <class C>
int backward(const EventPropBackward& f, int32_t* left, cudaStream_t stream) {
  const int64_t B = f.a.B, N = f.a.N, arrivals = B * f.a.I * f.a.S_in * (f.a.rows_of_neurons ? N : 1);
  if (B * N > 0 && f.a.w_rec)
    SNNFAST_LAUNCH((eventprop_recurrent_adjoints_kernel<C>), static_cast<unsigned>(B), kThreads, 0, stream, f, left);
  else if (B * N > 0)
    SNNFAST_LAUNCH((eventprop_adjoints_kernel<C>), blocks_of(B * N, kThreads), kThreads, 0, stream, f);
  if (f.grad_w && N * f.a.I > 0)
    SNNFAST_LAUNCH((eventprop_weights_kernel<C>), blocks_of(N * f.a.I, kThreads), kThreads, 0, stream, f);
  if (f.grad_arrivals && arrivals > 0)
    SNNFAST_LAUNCH((eventprop_arrivals_kernel<C>), blocks_of(arrivals, kThreads), kThreads, 0, stream, f);
  if ((f.grad_w_rec || f.grad_delays_rec) && N > 0)
    SNNFAST_LAUNCH((eventprop_recurrent_weights_kernel<C>), blocks_of(N * N, kThreads), kThreads, 0, stream, f);
  return cudaGetLastError();
}

}  // namespace

int launch_eventprop_forward(const EventPropForward& f, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  return f.a.is_double ? forward<double>(f, stream) : forward<float>(f, stream);
}

int launch_eventprop_backward(const EventPropBackward& f, int32_t* left, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  return f.a.is_double ? backward<double>(f, left, stream) : backward<float>(f, left, stream);
}

}  // namespace snnfast
