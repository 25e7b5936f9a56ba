// Input of recurrent neurons (core/recurrent.h) on CUDA: read from the spikes of earlier steps, which are in memory.
#pragma once
#include "core/half.h"
#include "core/recurrent.h"
#include "cuda/rows.cuh"

namespace snnfast {
namespace {

// Numbers in the dtype of x, which these kernels only know at run time: their time goes into sums. As bits, so that a
// load may be in flight while a block meets.
template <class C>
using Bits = std::conditional_t<sizeof(C) == 8, uint64_t, uint32_t>;

template <class C>
__device__ __forceinline__ Bits<C> bits_at(const Rows& x, int64_t t, int64_t n) {
  const int64_t at = t * x.time_stride + n * x.inner_stride;
  if (sizeof(C) == 8 || x.dtype == Dtype::f32) return static_cast<const Bits<C>*>(x.data)[at];
  return static_cast<const uint16_t*>(x.data)[at];
}

template <class C>
__device__ __forceinline__ C number_of(Bits<C> bits, Dtype dtype) {
  if (sizeof(C) == 8 || dtype == Dtype::f32) return bit_cast<C>(bits);
  const uint16_t half = static_cast<uint16_t>(bits);
  return dtype == Dtype::bf16 ? load_as<C>(BFloat16{half}) : load_as<C>(Half{half});
}

template <class C>
__device__ __forceinline__ C number_at(const Rows& x, int64_t t, int64_t n) {
  return number_of<C>(bits_at<C>(x, t, n), x.dtype);
}

// Writes a number; returns it as stored.
template <class C>
__device__ __forceinline__ C put(void* data, Dtype dtype, int64_t at, C value) {
  if (sizeof(C) == 8 || dtype == Dtype::f32) {
    store<C, 1>(data, at, &value);
    return value;
  }
  const float number = static_cast<float>(value);
  if (dtype == Dtype::bf16) {
    store<BFloat16, 1>(data, at, &number);
    return load_as<C>(Store<BFloat16>::from(number));
  }
  store<Half, 1>(data, at, &number);
  return load_as<C>(Store<Half>::from(number));
}

template <class C>
__device__ __forceinline__ C spike_at(const Rows& spikes, const Recurrence& r, int64_t t, int64_t n) {
  if (t >= 0) return number_at<C>(spikes, t, n);
  return t + r.K < 0 ? C(0) : number_at<C>(r.past, t + r.K, n);
}

template <class C>
__device__ __forceinline__ Lag<C> lag_of_neuron(const Recurrence& r, int64_t steps, int64_t n) {
  return lag_of(static_cast<const C*>(r.delay)[n % r.H], steps + r.K);
}

// Spikes of neuron n that arrive at step t.
template <class C>
__device__ __forceinline__ C arriving(const Rows& spikes, const Recurrence& r, int64_t steps, int64_t t, int64_t n) {
  if (!r.delay) return spike_at<C>(spikes, r, t - 1, n);
  const Lag<C> lag = lag_of_neuron<C>(r, steps, n);
  if (lag.early == C(0) && lag.late == C(0)) return C(0);
  return lag.late * spike_at<C>(spikes, r, t - 2 - lag.steps, n) +
         lag.early * spike_at<C>(spikes, r, t - 1 - lag.steps, n);
}

// Events of a sample at a step, in the order of its neurons.
template <class C>
struct Events {
  C* value;
  int32_t *index, *counts;  // [H], [warps of all neurons and of one block more]

  __device__ Events(C* memory, int64_t H)
      : value(memory), index(reinterpret_cast<int32_t*>(memory + H)), counts(index + H) {}

  // Lists the nonzero spike_of(i) of neurons i < H; called by all threads of the block. Returns their number.
  template <class SpikeOf>
  __device__ __forceinline__ int32_t list(int64_t H, const SpikeOf& spike_of) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const unsigned before = (1u << lane) - 1;
    for (int64_t base = 0; base < H; base += blockDim.x) {
      const int64_t i = base + threadIdx.x;
      const unsigned firing = __ballot_sync(~0u, (i < H ? spike_of(i) : C(0)) != C(0));
      if (lane == 0) counts[i / 32] = __popc(firing);
    }
    __syncthreads();
    int32_t total = 0;
    for (int64_t base = 0; base < H; base += blockDim.x) {
      const int64_t i = base + threadIdx.x;
      const C number = i < H ? spike_of(i) : C(0);
      const unsigned firing = __ballot_sync(~0u, number != C(0));
      int32_t at = total;
      for (int64_t w = base / 32; w < i / 32; w++) at += counts[w];
      at += __popc(firing & before);
      if (number != C(0)) {
        index[at] = static_cast<int32_t>(i);
        value[at] = number;
      }
      for (int64_t w = base / 32; w < (base + blockDim.x) / 32; w++) total += counts[w];
    }
    __syncthreads();
    return total;
  }

  // sum[i] + sum over events of value * rows[index][i], in their order.
  __device__ __forceinline__ C add(C sum, const C* rows, int64_t width, int64_t i, int32_t count) const {
    constexpr int kAhead = 4;  // weights in flight
    int32_t e = 0;
    for (; e + kAhead <= count; e += kAhead) {
      C weights[kAhead];
#pragma unroll
      for (int k = 0; k < kAhead; k++) weights[k] = rows[index[e + k] * width + i];
#pragma unroll
      for (int k = 0; k < kAhead; k++) sum += value[e + k] * weights[k];
    }
    for (; e < count; e++) sum += value[e] * rows[index[e] * width + i];
    return sum;
  }
};

}  // namespace
}  // namespace snnfast
