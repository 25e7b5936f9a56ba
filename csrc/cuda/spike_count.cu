#include "core/spike_count.h"

#include "core/half.h"
#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int kThreads = 128;
constexpr int kUnroll = 4;  // loads issued before the first is used

template <class C, class T, Reset R>
__global__ void __launch_bounds__(kThreads) spike_count_kernel(const NeuronForward<SpikeCount> a) {
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n >= a.N) return;
  const C v_reset = static_cast<C>(a.settings[SpikeCount::kVReset]);
  const Param& p = a.param[SpikeCount::kVThreshold];
  const C threshold = p.data ? static_cast<const C*>(p.data)[n / p.inner % p.count] : static_cast<C>(p.value);
  C v = a.state_in[SpikeCount::kV] ? static_cast<const C*>(a.state_in[SpikeCount::kV])[n] : v_reset;
  C count = a.state_in[SpikeCount::kCount] ? static_cast<const C*>(a.state_in[SpikeCount::kCount])[n] : C(0);
  const T* x = static_cast<const T*>(a.x.data) + n * a.x.inner_stride;
  for (int64_t t0 = 0; t0 < a.T; t0 += kUnroll) {
    C current[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; u++)
      if (t0 + u < a.T) current[u] = load_as<C>(x[(t0 + u) * a.x.time_stride]);
#pragma unroll
    for (int u = 0; u < kUnroll; u++)
      if (t0 + u < a.T) spike_count_step<C, R>(current[u], threshold, v_reset, &v, &count);
  }
  static_cast<C*>(a.state_out[SpikeCount::kV])[n] = v;
  static_cast<C*>(a.state_out[SpikeCount::kCount])[n] = count;
}

template <class C, class T>
int launch_as(const NeuronForward<SpikeCount>& a, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>((a.N + kThreads - 1) / kThreads);
  if (a.reset == Reset::hard)
    SNNFAST_LAUNCH((spike_count_kernel<C, T, Reset::hard>), blocks, kThreads, 0, stream, a);
  else
    SNNFAST_LAUNCH((spike_count_kernel<C, T, Reset::soft>), blocks, kThreads, 0, stream, a);
  return cudaGetLastError();
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
