// Weights of the neurons of a block: in the caller's tensor or, during a launch, in the block's memory.
#pragma once
#include <cstdint>

#include "core/host_device.h"
#include "cuda/launch.h"

namespace snnfast {
namespace {

template <class C>
struct BlockWeights {
  C* w;  // weight of the first neuron and input
  int64_t stride_neuron, stride_input;

  __device__ C& operator()(int64_t neuron, int64_t input) const {
    return w[neuron * stride_neuron + input * stride_input];
  }

  // In a block's memory neurons are contiguous, in rows of an odd width: neither threads with neighbouring neurons nor
  // those with neighbouring inputs have bank conflicts in shared memory.
  static SNNFAST_HD int64_t width(int64_t neurons) { return neurons | 1; }
  static SNNFAST_HD int64_t count(int64_t neurons, int64_t inputs) { return width(neurons) * inputs; }
  static __device__ BlockWeights in_memory(C* memory, int64_t neurons) { return {memory, 1, width(neurons)}; }

  // By all threads, along the contiguous dimension outside of the block's memory.
  __device__ void copy_to(const BlockWeights& to, int64_t neurons, int64_t inputs, bool by_input) const {
    for (int64_t e = threadIdx.x; e < neurons * inputs; e += blockDim.x) {
      const int64_t n = by_input ? e / inputs : e % neurons, i = by_input ? e % inputs : e / neurons;
      to(n, i) = (*this)(n, i);
    }
  }
};

}  // namespace
}  // namespace snnfast
