#include "core/delay.h"

#include "core/half.h"
#include "cuda/launch.h"

// A thread takes one neuron through all steps. Neighbours whose delays differ read other rows at a time, which the caches hold
// for as many steps as the delays spread over.
namespace snnfast {
namespace {

constexpr int kThreads = 128;

// The input of neuron n at step t, at least -P.
template <class C, class T>
__device__ __forceinline__ C input(const DelayScan& a, int64_t n, int64_t t) {
  const Rows& rows = t < 0 ? a.past : a.x;
  return load_as<C>(static_cast<const T*>(rows.data)[(t < 0 ? t + a.P : t) * rows.time_stride + n * rows.inner_stride]);
}

template <class C, class T>
__global__ void __launch_bounds__(kThreads) delay_forward_kernel(const DelayForward a, int64_t count) {
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n >= a.N) return;
  const DelayTaps<C> taps(a, n);
  for (int64_t t = 0; t < a.T; t++) {
    const int64_t end = min(taps.begin + count, t + a.P + 1);
    C total = C(0);
    for (int64_t j = taps.begin; j < end; j++) total += taps.weight(j) * input<C, T>(a, n, t - j);
    static_cast<T*>(a.y)[t * a.N + n] = Store<T>::from(total);
  }
}

template <class C, class T>
__global__ void __launch_bounds__(kThreads) delay_backward_kernel(const DelayBackward a, int64_t count) {
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n >= a.N) return;
  const DelayTaps<C> taps(a, n);
  const T* grad_y = static_cast<const T*>(a.grad_y.data) + n * a.grad_y.inner_stride;
  C grad_d = C(0);
  for (int64_t t = a.T - 1; t >= -a.P; t--) {
    const int64_t begin = max(taps.begin, -t), end = min(taps.begin + count, a.T - t);
    C total = C(0), moved = C(0);
    for (int64_t j = begin; j < end; j++) {
      const C grad = load_as<C>(grad_y[(t + j) * a.grad_y.time_stride]);
      total += taps.weight(j) * grad;
      moved += taps.slope(j) * grad;
    }
    if (void* out = t < 0 ? a.grad_past : a.grad_x) static_cast<T*>(out)[(t < 0 ? t + a.P : t) * a.N + n] = Store<T>::from(total);
    if (a.grad_d) grad_d += input<C, T>(a, n, t) * moved;
  }
  if (a.grad_d) static_cast<C*>(a.grad_d)[n] = grad_d;
}

template <class C, class T>
void start(const DelayForward& a, cudaStream_t stream) {
  SNNFAST_LAUNCH((delay_forward_kernel<C, T>), blocks_of(a.N, kThreads), kThreads, 0, stream, a, delay_taps(a));
}
template <class C, class T>
void start(const DelayBackward& a, cudaStream_t stream) {
  SNNFAST_LAUNCH((delay_backward_kernel<C, T>), blocks_of(a.N, kThreads), kThreads, 0, stream, a, delay_taps(a));
}

template <class Scan>
int launch(const Scan& a, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  switch (a.x.dtype) {
    case Dtype::f32: start<float, float>(a, stream); break;
    case Dtype::f64: start<double, double>(a, stream); break;
    case Dtype::bf16: start<float, BFloat16>(a, stream); break;
    default: start<float, Half>(a, stream);
  }
  return cudaGetLastError();
}

}  // namespace

int launch_delay_forward(const DelayForward& a, void* stream) { return launch(a, stream); }
int launch_delay_backward(const DelayBackward& a, void* stream) { return launch(a, stream); }

}  // namespace snnfast
