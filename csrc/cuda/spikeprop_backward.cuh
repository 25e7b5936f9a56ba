// Gradients of spike times. Every term of every sum has a closed form, so there is a thread per weight or event, which
// goes through samples and neurons in order, without atomics.
#pragma once
#include "cuda/spikeprop_events.cuh"

namespace snnfast {
namespace {

// Time and rank of each event, indexed by its number.
template <class C>
__global__ void __launch_bounds__(kThreads) spikeprop_rank_kernel(const SpikePropEvents a, const Workspace<C> m) {
  const int64_t b = blockIdx.x;
  for (int64_t n = threadIdx.x; n < a.N; n += kThreads) m.rank[b * a.N + n] = INT32_MAX;
  __syncthreads();
  for (int64_t e = threadIdx.x; e < spikeprop_kept(a, b); e += kThreads) {
    const uint32_t number = static_cast<uint32_t>(a.order[b * a.N + e]);
    if (number >= a.N) continue;
    const int64_t n = b * a.N + number;
    m.rank[n] = static_cast<int32_t>(e), m.time_of[n] = static_cast<const C*>(a.times)[b * a.N + e];
  }
}

// Gradient of the loss with respect to the potential of a neuron at its time.
template <class C>
__global__ void __launch_bounds__(kThreads) spikeprop_weight_kernel(const SpikePropBackward a, const Workspace<C> m) {
  const SpikePropEvents& events = a.events;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= events.B * events.O) return;
  const int64_t b = i / events.O;
  const int32_t before = a.before[i];
  const C guard = static_cast<C>(a.slope_min * events.v_threshold / spikeprop_tau<C>(events));
  const C slope = static_cast<const C*>(a.slope)[i];
  const bool fired = static_cast<const C*>(a.t_out)[i] < infinity<C>();
  C weight = 0;
  if (fired && a.grad_t) weight = -static_cast<const C*>(a.grad_t)[i] / (slope > guard ? slope : guard);
  if (!fired && a.grad_u && before > 0) weight = static_cast<const C*>(a.grad_u)[i];
  m.weight[i] = weight;
  m.kink[i] = -1;
  if (!fired && before > 0 && !events.grid_points && before < spikeprop_kept(events, b) &&
      static_cast<const C*>(events.times)[b * events.N + before] == static_cast<const C*>(a.time)[i])
    m.kink[i] = before;
}

template <class C>
__global__ void __launch_bounds__(kThreads)
    spikeprop_events_kernel(const SpikePropBackward a, const Workspace<C> m, const C* time) {
  const SpikePropEvents& events = a.events;
  const SpikePropConstants<C> c(events);
  const int64_t b = blockIdx.x;
  for (int64_t n = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x; n < events.N;
       n += static_cast<int64_t>(gridDim.y) * kThreads) {
    const int32_t rank = m.rank[b * events.N + n];
    C by_event = 0, by_tau = 0;
    if (rank < INT32_MAX) {
      const C start = m.time_of[b * events.N + n];
      for (int64_t j = 0; j < events.O; j++) {
        const int64_t i = b * events.O + j;
        const C weight = m.weight[i];
        if (weight == 0) continue;
        if (rank < a.before[i]) {
          const C x = (time[i] - start) * c.inverse_tau;
          const C moved =
              weight * static_cast<const C*>(a.w)[j * events.N + n] * (c.scale * exp_nonpositive(-x) * (1 - x));
          by_event -= moved, by_tau -= moved * x;
        } else if (rank == m.kink[i]) {
          by_event += weight * static_cast<const C*>(a.slope)[i];
        }
      }
    }
    m.by_event[b * events.N + n] = by_event, m.by_tau[b * events.N + n] = by_tau;
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads)
    spikeprop_weights_kernel(const SpikePropBackward a, const Workspace<C> m, const C* time) {
  const SpikePropEvents& events = a.events;
  const SpikePropConstants<C> c(events);
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n >= events.N) return;
  for (int64_t j0 = static_cast<int64_t>(blockIdx.y) * kRows; j0 < events.O;
       j0 += static_cast<int64_t>(gridDim.y) * kRows) {
    C sum[kRows] = {};
    for (int64_t b = 0; b < events.B; b++) {
      const int32_t rank = m.rank[b * events.N + n];
      if (rank == INT32_MAX) continue;
      const C start = m.time_of[b * events.N + n];
#pragma unroll
      for (int r = 0; r < kRows; r++) {
        if (j0 + r >= events.O) continue;
        const int64_t i = b * events.O + j0 + r;
        const C weight = m.weight[i];
        if (weight == 0 || rank >= a.before[i]) continue;
        const C s = time[i] - start;
        sum[r] += weight * (c.scale * s * exp_nonpositive(-s * c.inverse_tau));
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; r++)
      if (j0 + r < events.O) static_cast<C*>(a.grad_w)[(j0 + r) * events.N + n] = sum[r];
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads)
    spikeprop_inputs_kernel(const C* by_event, C* grad, int64_t count, int64_t K) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  C sum = 0;
  for (int64_t k = 0; k < K; k++) sum += by_event[i * K + k];
  grad[i] = sum;
}

// grad[d] = sum of terms[d + i stride], i < count; one block per sum, always in the same order.
template <class C>
__global__ void __launch_bounds__(kThreads)
    spikeprop_sum_kernel(const C* terms, C* grad, int64_t count, int64_t stride) {
  __shared__ double sums[kThreads];
  const int64_t d = blockIdx.x;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += static_cast<double>(terms[d + i * stride]);
  sums[threadIdx.x] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) grad[d] = static_cast<C>(sums[0]);
}

}  // namespace
}  // namespace snnfast
