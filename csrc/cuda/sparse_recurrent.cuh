// Sparse connections of recurrent neurons on CUDA, for a block, which has a sample.
#pragma once
#include "core/philox.h"
#include "cuda/sparse_rows.cuh"

namespace snnfast {
namespace {

// An input with the noise of target n at step t of the call.
template <class C>
__device__ __forceinline__ C with_noise(const Noise& noise, int64_t n, int64_t sample, int64_t t, C input) {
  int64_t low = 0, high = noise.runs;  // the last run that begins at n or before
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (noise.run(middle)[0] <= n)
      low = middle;
    else
      high = middle;
  }
  const int64_t* run = noise.run(low);
  if (noise.silent(run)) return input;
  const uint64_t seed = static_cast<uint64_t>(noise.key[0]), step = static_cast<uint64_t>(noise.key[1] + t);
  const Words<uint32_t> drawn =
      philox4x32_10(Words<uint32_t>{static_cast<uint32_t>(n / 64 * 16 + n % 16), static_cast<uint32_t>(sample),
                                    static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32)},
                    static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  const int64_t place = n % 64 / 16;
  const int64_t word = place == 0 ? drawn.x : place == 1 ? drawn.y : place == 2 ? drawn.z : drawn.w;
  int64_t arrivals = run[1];
  for (int64_t k = 2; k < noise.width && word >= run[k]; k++) arrivals++;
  return input + static_cast<const C*>(noise.weight)[n] * static_cast<C>(arrivals);
}

template <class C>
struct SparseConnections {
  const Recurrence& r;
  const SparseRows<C> rows;
  Chunk<C>& chunk;
  C* const current;  // [inputs * H]: all inputs of a step
  const int64_t T, sample, first, samples;

  __device__ SparseConnections(const Recurrence& recurrence, Chunk<C>& memory, int64_t steps, int64_t neurons)
      : r(recurrence),
        rows(r.synapses, r.weight, r.inputs * r.H),
        chunk(memory),
        current(static_cast<C*>(r.room) + blockIdx.x * r.inputs * r.H),
        T(steps),
        sample(blockIdx.x),
        first(sample * r.H),
        samples(neurons / r.H) {}

  // Computes the inputs of step t: those of input_rows(0), input_rows(1), ..., the noise, then the arriving spikes,
  // from the shortest delay to the longest, in order of their presynaptic neurons and of their synapses. A thread
  // writes and reads the inputs and spikes of its own neurons, so the block need not meet before.
  template <class InputRows>
  __device__ __forceinline__ void begin_step(int64_t t, const Rows& spikes, const InputRows& input_rows) const {
    for (int64_t i = threadIdx.x; i < r.H; i += blockDim.x)
      for (int64_t m = 0; m < r.inputs; m++) {
        const C x = number_at<C>(input_rows(m), t, first + i);
        current[m * r.H + i] = r.noise.table ? with_noise(r.noise, m * r.H + i, sample, t, x) : x;
      }
    for (int64_t k = 0; k < rows.s.delays; k++) {
      const int64_t sent = t - rows.s.steps[k];
      if (!may_arrive(k) || sent < -r.K) continue;
      chunk.each_event(
          r.H, [&](int64_t j) { return spike_at<C>(spikes, r, sent, first + j); },
          [&](int64_t j, C number) { rows.deliver(j, k, number, current); });
    }
  }

  // dL/d(all inputs) of this sample at step t, [inputs * H].
  __device__ __forceinline__ C* inputs_back(void* grad_current, int64_t t) const {
    return static_cast<C*>(grad_current) + (t * samples + sample) * r.inputs * r.H;
  }

  // Computes dL/d(spikes of step t) of all neurons through their arrivals; called by all threads of a block.
  __device__ __forceinline__ void begin_step_backward(int64_t t, void* grad_current, C* returned) const {
    __syncthreads();  // the gradients of step t + 1 are there, and what they returned has been read
    for (int64_t j = threadIdx.x / 32; j < r.H; j += blockDim.x / 32) {
      C sum = C(0);
      for (int64_t k = 0; k < rows.s.delays; k++) {
        const int64_t arrives = t + rows.s.steps[k];
        if (!may_arrive(k) || arrives < 0 || arrives >= T) continue;
        const C* inputs = inputs_back(grad_current, arrives);
        sum += rows.gather(j, k, [&](int64_t to) { return inputs[to]; });
      }
      sum = warp_sum(sum);
      if (threadIdx.x % 32 == 0) returned[first + j] = rows.s.one_a_row ? sum * rows.weight[j] : sum;
    }
    __syncthreads();
  }

 private:
  // Whether spikes with this delay arrive in the call.
  __device__ __forceinline__ bool may_arrive(int64_t k) const {
    return rows.s.steps[k] >= 1 && rows.s.steps[k] <= T + r.K;
  }
};

}  // namespace
}  // namespace snnfast
