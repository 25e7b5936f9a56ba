#include "core/delay.h"

#include "core/half.h"
#include "cuda/launch.h"
#include "cuda/rows.cuh"

// A thread takes V neighbours through all steps. The weights of kTaps taps are computed before the first step, and a
// window of as many rows moves with the steps, so that each row is read once; rows of several steps are in flight
// together. V is more than 1 where neighbours share a delay and so read the same rows. Neighbours with different delays
// read different rows at a time, which the caches hold for as many steps as the delays spread over. With more taps than
// a window has (kTaps = 0), weights are recomputed for each step.
namespace snnfast {
namespace {

constexpr int kBlock = 128;                 // threads
constexpr int kFewTaps = 2, kManyTaps = 8;  // of a window: without sigma there are 2

// Steps whose rows are loaded together.
template <class C, int V, int kTaps>
constexpr int kGroup = V > 1 || kTaps > kFewTaps ? 4 : 128 / static_cast<int>(sizeof(C));

template <class T, int V>
__device__ __forceinline__ Pack<T, V> zeros() {
  Pack<T, V> pack;
  memset(&pack, 0, sizeof pack);
  return pack;
}

// Input of neurons from n on at step t; zeros before the first step.
template <class T, int V>
__device__ __forceinline__ Pack<T, V> input(const DelayScan& a, int64_t n, int64_t t) {
  if (t < -a.P) return zeros<T, V>();
  return t < 0 ? Reader<T, V>(a.past, t + a.P, n).load(0) : Reader<T, V>(a.x, t, n).load(0);
}

// Maximum over the lanes of a warp.
__device__ __forceinline__ int64_t most_of_warp(int64_t value) {
  for (int offset = 16; offset; offset /= 2) value = max(value, __shfl_xor_sync(~0u, value, offset));
  return value;
}

template <class C, int V, int kTaps>
struct Window {
  static constexpr int kSize = kTaps ? kTaps : 1;
  C weight[kSize], slope[kSize], row[kSize][V];  // row[k]: input of tap k

  __device__ __forceinline__ explicit Window(const DelayTaps<C>& taps) {
#pragma unroll
    for (int k = 0; k < kTaps; k++) {
      weight[k] = taps.weight(taps.begin + k), slope[k] = taps.slope(taps.begin + k);
#pragma unroll
      for (int i = 0; i < V; i++) row[k][i] = C(0);
    }
  }
  template <class T>
  __device__ __forceinline__ void push(const Pack<T, V>& next) {
#pragma unroll
    for (int k = kTaps - 1; k > 0; k--)
#pragma unroll
      for (int i = 0; i < V; i++) row[k][i] = row[k - 1][i];
    widen(next, row[0]);
  }
  // sum[i] = the sum over `count` taps, in their order, of factor * row.
  __device__ __forceinline__ void add(const C* factor, int64_t count, C* sum) const {
#pragma unroll
    for (int i = 0; i < V; i++) {
      sum[i] = C(0);
#pragma unroll
      for (int k = 0; k < kTaps; k++)
        if (k < count) sum[i] += factor[k] * row[k][i];
    }
  }
};

template <class C, class T, int V, int kTaps>
__global__ void __launch_bounds__(kBlock) delay_forward_kernel(const DelayForward a, int64_t count) {
  const int64_t n = (static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x) * V;
  const DelayTaps<C> taps(a, n < a.N ? n : a.N - 1);
  // Steps until all lanes read x alone: their stores are contiguous only at the same step.
  const int64_t early = kTaps ? most_of_warp(min(taps.begin, a.T)) : 0;
  if (n >= a.N) return;
  if constexpr (kTaps == 0) {
    for (int64_t t = 0; t < a.T; t++) {
      const int64_t end = min(taps.begin + count, t + a.P + 1);
      C total = C(0);
      for (int64_t j = taps.begin; j < end; j++) {
        C x;
        widen(input<T, 1>(a, n, t - j), &x);
        total += taps.weight(j) * x;
      }
      store<T, 1>(a.y, t * a.N + n, &total);
    }
  } else {
    Window<C, V, kTaps> window(taps);
#pragma unroll
    for (int k = kTaps - 1; k > 0; k--) window.push(input<T, V>(a, n, -taps.begin - k));
    int64_t at = n;
    const auto step = [&](const Pack<T, V>& row) {
      C total[V];
      window.push(row);
      window.add(window.weight, count, total);
      store<T, V>(a.y, at, total);
      at += a.N;
    };
    in_groups<4>(int64_t{0}, early, [&](auto steps, int64_t t) {
      constexpr int kSteps = decltype(steps)::value;
      Pack<T, V> rows[kSteps];
#pragma unroll
      for (int u = 0; u < kSteps; u++) rows[u] = input<T, V>(a, n, t + u - taps.begin);
#pragma unroll
      for (int u = 0; u < kSteps; u++) step(rows[u]);
    });
    in_groups<kGroup<C, V, kTaps>>(early, a.T, [&](auto steps, int64_t t) {
      constexpr int kSteps = decltype(steps)::value;
      Pack<T, V> rows[kSteps];
      const Reader<T, V> reader(a.x, t - taps.begin, n);
#pragma unroll
      for (int u = 0; u < kSteps; u++) rows[u] = reader.load(u);
#pragma unroll
      for (int u = 0; u < kSteps; u++) step(rows[u]);
    });
  }
}

// Gradients at step t of one neuron, tap by tap.
template <class C, class T>
__device__ __forceinline__ void delay_backward_at(const DelayBackward& a, const DelayTaps<C>& taps, int64_t count,
                                                  int64_t n, int64_t t, C& grad_d) {
  const int64_t begin = max(taps.begin, -t), end = min(taps.begin + count, a.T - t);
  C total = C(0), moved = C(0);
  for (int64_t j = begin; j < end; j++) {
    C grad;
    widen(Reader<T, 1>(a.grad_y, t + j, n).load(0), &grad);
    total += taps.weight(j) * grad;
    moved += taps.slope(j) * grad;
  }
  if (void* out = t < 0 ? a.grad_past : a.grad_x) store<T, 1>(out, (t < 0 ? t + a.P : t) * a.N + n, &total);
  if (!a.grad_d) return;
  C x;
  widen(input<T, 1>(a, n, t), &x);
  grad_d += x * moved;
}

template <class C, class T, int V, int kTaps>
__global__ void __launch_bounds__(kBlock) delay_backward_kernel(const DelayBackward a, int64_t count) {
  const int64_t n = (static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x) * V;
  if (n >= a.N) return;
  const DelayTaps<C> taps(a, n);
  C grad_d[V] = {};
  if constexpr (kTaps == 0) {
    for (int64_t t = a.T - 1; t >= 0; t--) delay_backward_at<C, T>(a, taps, count, n, t, grad_d[0]);
  } else {
    Window<C, V, kTaps> window(taps);
    int64_t at = (a.T - 1) * a.N + n;
    in_groups<kGroup<C, V, kTaps>>(int64_t{0}, a.T, [&](auto steps, int64_t before) {
      constexpr int kSteps = decltype(steps)::value;
      const int64_t t = a.T - 1 - before, last = t + taps.begin;                  // its gradient is read first
      const int behind = static_cast<int>(min(last - a.T + 1, int64_t{kSteps}));  // rows after the last one
      const Reader<T, V> grads(a.grad_y, last, n);
      Pack<T, V> rows[kSteps], xs[kSteps];
#pragma unroll
      for (int u = 0; u < kSteps; u++) rows[u] = u >= behind ? grads.load(-u) : zeros<T, V>();
      if (a.grad_d) {
        const Reader<T, V> reader(a.x, t, n);
#pragma unroll
        for (int u = 0; u < kSteps; u++) xs[u] = reader.load(-u);
      }
#pragma unroll
      for (int u = 0; u < kSteps; u++, at -= a.N) {
        C total[V], moved[V], x[V];
        window.push(rows[u]);
        window.add(window.weight, count, total);
        if (a.grad_x) store<T, V>(a.grad_x, at, total);
        if (!a.grad_d) continue;
        window.add(window.slope, count, moved);
        widen(xs[u], x);
#pragma unroll
        for (int i = 0; i < V; i++) grad_d[i] += x[i] * moved[i];
      }
    });
  }
  for (int64_t t = -1; t >= -a.P; t--)
#pragma unroll 1
    for (int i = 0; i < V; i++) delay_backward_at<C, T>(a, taps, count, n + i, t, grad_d[i]);
  if (a.grad_d) store<C, V>(a.grad_d, n, grad_d);
}

const Rows& read_rows(const DelayForward& a) { return a.x; }
const Rows& read_rows(const DelayBackward& a) { return a.grad_y; }

// Whether V neighbours share a delay, their rows can be loaded together, and threads of V neighbours fill the GPU.
template <class T, int V, class Scan>
bool together(const Scan& a) {
  const bool shared = !a.d.data || a.d.count == 1 || a.d.inner % V == 0;
  return shared && fills(a.N, sizeof(T), kStepsThatFill) && a.N % V == 0 && rows_aligned<T, V>(a.x) &&
         rows_aligned<T, V>(a.past) && rows_aligned<T, V>(read_rows(a));
}

template <class C, class T, int V, int kTaps>
void start(const DelayForward& a, int64_t count, cudaStream_t stream) {
  SNNFAST_LAUNCH((delay_forward_kernel<C, T, V, kTaps>), blocks_of(a.N / V, kBlock), kBlock, 0, stream, a, count);
}
template <class C, class T, int V, int kTaps>
void start(const DelayBackward& a, int64_t count, cudaStream_t stream) {
  SNNFAST_LAUNCH((delay_backward_kernel<C, T, V, kTaps>), blocks_of(a.N / V, kBlock), kBlock, 0, stream, a, count);
}
template <class C, class T, class Scan>
void start(const Scan& a, cudaStream_t stream) {
  constexpr int V = 16 / static_cast<int>(sizeof(T));
  const int64_t count = delay_taps(a);
  if (count > kManyTaps) return start<C, T, 1, 0>(a, count, stream);
  if (count > kFewTaps) return start<C, T, 1, kManyTaps>(a, count, stream);
  if (together<T, V>(a)) return start<C, T, V, kFewTaps>(a, count, stream);
  start<C, T, 1, kFewTaps>(a, count, stream);
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
