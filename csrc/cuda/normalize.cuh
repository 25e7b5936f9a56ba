// Normalisation of the weights of one neuron.
#pragma once
#include "core/plasticity.h"
#include "cuda/launch.h"

namespace snnfast {
namespace {

// By one warp: scales w[0], w[stride], ... to a sum of magnitudes `norm`. The sum is in order, as in the reference; a
// warp loads the next weights while these are summed.
template <class C>
__device__ void normalize_row(const Plasticity<C>& p, C* w, int64_t count, int64_t stride, double norm) {
  const int lane = threadIdx.x % 32;
  const auto magnitude = [&](int64_t i) { return i < count ? fabs(static_cast<double>(w[i * stride])) : 0.0; };
  double total = 0, next = magnitude(lane);
  for (int64_t i0 = 0; i0 < count; i0 += 32) {
    const double value = next;
    next = magnitude(i0 + 32 + lane);
    for (int l = 0; l < 32; l++) total += __shfl_sync(~0u, value, l);
  }
  if (!(total > 0)) return;
  const double factor = norm / total;
  for (int64_t i = lane; i < count; i += 32)
    w[i * stride] = stdp_clamp(p, static_cast<C>(static_cast<double>(w[i * stride]) * factor));
}

}  // namespace
}  // namespace snnfast
