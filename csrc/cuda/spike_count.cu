#include "core/spike_count.h"

#include "cuda/rows.cuh"

namespace snnfast {
namespace {

template <class C, class T, Reset R, int V>
__global__ void __launch_bounds__(kThreads<V == 1>) spike_count_kernel(const NeuronForward<SpikeCount> a) {
  const int64_t n = (static_cast<int64_t>(blockIdx.x) * kThreads<V == 1> + threadIdx.x) * V;
  SNNFAST_DYN_SHARED(char, shared);
  Sequence<T, V, V == 1> rows(a.x, a.T, n, a.N, shared);
  if (n >= a.N) return;
  const C v_reset = static_cast<C>(a.settings[SpikeCount::kVReset]);
  C threshold[V][SpikeCount::kParams], v[V], count[V];
  load_params<C, V>(a.param, n, threshold);
  load_neurons<C, V>(a.state_in[SpikeCount::kV], n, v_reset, v);
  load_neurons<C, V>(a.state_in[SpikeCount::kCount], n, C(0), count);
  rows.for_each(0, a.T, [&](const Pack<T, V>& row) {
    C x[V];
    widen(row, x);
#pragma unroll
    for (int i = 0; i < V; i++)
      spike_count_step<C, R>(x[i], threshold[i][SpikeCount::kVThreshold], v_reset, &v[i], &count[i]);
  });
  store<C, V>(a.state_out[SpikeCount::kV], n, v);
  store<C, V>(a.state_out[SpikeCount::kCount], n, count);
}

template <class C, class T, Reset R>
int launch_as(const NeuronForward<SpikeCount>& a, cudaStream_t stream) {
  constexpr int V = 16 / sizeof(T);
  if (scan_aligned<C, T, V>(a, kStepsThatFill))
    SNNFAST_LAUNCH((spike_count_kernel<C, T, R, V>), (blocks<V, false>(a.N)), kThreads<false>,
                   (Sequence<T, V, false>::kShared), stream, a);
  else
    SNNFAST_LAUNCH((spike_count_kernel<C, T, R, 1>), (blocks<1, true>(a.N)), kThreads<true>,
                   (Sequence<T, 1, true>::kShared), stream, a);
  return cudaGetLastError();
}

template <class C, class T>
int launch_as(const NeuronForward<SpikeCount>& a, cudaStream_t stream) {
  return a.reset == Reset::hard ? launch_as<C, T, Reset::hard>(a, stream) : launch_as<C, T, Reset::soft>(a, stream);
}

}  // namespace

int launch_spike_count(const NeuronForward<SpikeCount>& a, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  switch (a.x.dtype) {
    case Dtype::f32: return launch_as<float, float>(a, stream);
    case Dtype::f64: return launch_as<double, double>(a, stream);
    case Dtype::bf16: return launch_as<float, BFloat16>(a, stream);
    default: return launch_as<float, Half>(a, stream);
  }
}

}  // namespace snnfast
