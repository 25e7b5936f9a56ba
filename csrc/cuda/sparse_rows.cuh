// Rows of sparse synapses on CUDA, for recurrent and feed-forward connections. The host cannot read them there, so a
// kernel checks each index that it uses: wrong ones of a raw call reach no other memory.
#pragma once
#include "cuda/recurrent_steps.cuh"

namespace snnfast {
namespace {

constexpr int kSparseThreads = 128;  // of a block, without neurons
#ifdef SNNFAST_CUDA_EMULATION
constexpr int64_t kMostBlocks = 3;  // so that small tests give a block several rows
#else
constexpr int64_t kMostBlocks = int64_t{1} << 20;
#endif

// Blocks of a launch in which each processes every gridDim.x-th of n items.
inline unsigned some_of(int64_t n) { return static_cast<unsigned>(min(n, kMostBlocks)); }

// The sum over the lanes of a warp, the same for all of them, always in the same order.
template <class C>
__device__ __forceinline__ C warp_sum(C value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(~0u, value, lanes);
  return value;
}

template <class C>
struct SparseRows {
  Synapses s;
  const C* weight;
  int64_t outputs;

  __device__ SparseRows(const Synapses& synapses, const void* weights, int64_t targets)
      : s(synapses), weight(static_cast<const C*>(weights)), outputs(targets) {}

  // The synapses of neuron j with delay steps[k].
  struct Range {
    int64_t begin, end;
  };
  __device__ __forceinline__ Range row(int64_t j, int64_t k) const {
    const int64_t* first = s.first + j * s.delays + k;
    return {max(first[0], 0), min(first[1], s.size)};
  }
  // -1: no target
  __device__ __forceinline__ int64_t target(int64_t q) const {
    const int64_t found =
        s.wide ? static_cast<const int32_t*>(s.targets)[q] : static_cast<const int16_t*>(s.targets)[q];
    return found < outputs ? found : -1;
  }

  // Adds spikes of neuron j times its weights to `sums`; called by all threads of a block, which meet afterwards.
  // Synapses to the same target are neighbours: the thread of the first adds them all, in their order.
  __device__ __forceinline__ void deliver(int64_t j, int64_t k, C spikes, C* sums) const {
    const Range range = row(j, k);
    for (int64_t q = range.begin + threadIdx.x; q < range.end; q += blockDim.x) {
      const int64_t to = target(q);
      if (to < 0 || (q > range.begin && target(q - 1) == to)) continue;
      C sum = sums[to];
      int64_t next = q;
      do {
        sum += spikes * weight[s.one_a_row ? j : next];
        next++;
      } while (next < range.end && target(next) == to);
      sums[to] = sum;
    }
    __syncthreads();
  }

  // A lane's part of the sum of input_of(target) times the weight, without it where a row has one weight.
  template <class Input>
  __device__ __forceinline__ C gather(int64_t j, int64_t k, const Input& input_of) const {
    const Range range = row(j, k);
    C sum = C(0);
    for (int64_t q = range.begin + threadIdx.x % 32; q < range.end; q += 32) {
      const int64_t to = target(q);
      if (to >= 0) sum += s.one_a_row ? input_of(to) : input_of(to) * weight[q];
    }
    return sum;
  }

  // Writes the gradients of the weights of neuron j: sums of its spikes times input_of(slot, k, target) over the slots
  // in which it spiked, in their order; called by all threads of a block.
  template <class Spikes, class Input>
  __device__ __forceinline__ void learn(int64_t j, int64_t slots, const Spikes& spikes_of, const Input& input_of,
                                        C* grad_weight) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32,
              warps = static_cast<int>(blockDim.x) / 32;
    // Calls visit(slot, spikes) for these slots; by all lanes.
    const auto each_slot = [&](const auto& visit) {
      for (int64_t base = 0; base < slots; base += 32) {
        const C spikes = base + lane < slots ? spikes_of(base + lane) : C(0);
        for (unsigned firing = __ballot_sync(~0u, spikes != C(0)); firing; firing &= firing - 1) {
          const int l = __ffs(static_cast<int>(firing)) - 1;
          visit(base + l, __shfl_sync(~0u, spikes, l));
        }
      }
    };
    if (s.one_a_row) {
      if (warp > 0) return;
      C total = C(0);
      each_slot([&](int64_t slot, C spikes) {
        C sum = C(0);
        for (int64_t k = 0; k < s.delays; k++) sum += gather(j, k, [&](int64_t to) { return input_of(slot, k, to); });
        total += spikes * warp_sum(sum);
      });
      if (lane == 0) grad_weight[j] = total;
      return;
    }
    for (int64_t k = 0; k < s.delays; k++) {
      const Range range = row(j, k);
      for (int64_t first = range.begin + 32 * warp; first < range.end; first += 32 * warps) {
        const int64_t q = first + lane, to = q < range.end ? target(q) : -1;
        C total = C(0);
        each_slot([&](int64_t slot, C spikes) {
          if (to >= 0) total += spikes * input_of(slot, k, to);
        });
        if (q < range.end) grad_weight[q] = total;
      }
    }
  }
};

// Neurons of a chunk, a thread each, that spiked.
template <class C>
struct Chunk {
  C spikes[kRecurrentThreads];
  int32_t index[kRecurrentThreads], counts[kRecurrentThreads / 32];

  // Calls visit(j, spikes) for the neurons j < n that spiked, in their order; called by all threads of a block, which
  // meet before the first visit, and must meet at the end of each.
  template <class Spikes, class Visit>
  __device__ __forceinline__ void each_event(int64_t n, const Spikes& spikes_of, const Visit& visit) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    for (int64_t base = 0; base < n; base += blockDim.x) {
      const C mine = base + threadIdx.x < n ? spikes_of(base + threadIdx.x) : C(0);
      const unsigned firing = __ballot_sync(~0u, mine != C(0));
      if (lane == 0) counts[warp] = __popc(firing);
      __syncthreads();
      int place = __popc(firing & ((1u << lane) - 1)), count = 0;
      for (int w = 0; w < static_cast<int>(blockDim.x) / 32; w++) {
        if (w < warp) place += counts[w];
        count += counts[w];
      }
      if (mine != C(0)) index[place] = static_cast<int32_t>(threadIdx.x), spikes[place] = mine;
      __syncthreads();
      for (int e = 0; e < count; e++) visit(base + index[e], spikes[e]);
    }
  }
};

}  // namespace
}  // namespace snnfast
