// Normalisation of the weights of one neuron.
#pragma once
#include "core/plasticity.h"
#include "cuda/launch.h"

namespace snnfast {
namespace {

// By one warp: scales the weights at(0), at(1), ... to a sum of magnitudes `norm`; at returns a pointer, or null for
// none. The sum is in order, as in the reference; a warp loads the next weights while these are summed.
template <class C, class At>
__device__ void normalize_weights(const Plasticity<C>& p, int64_t count, double norm, const At& at) {
  const int lane = threadIdx.x % 32;
  const auto magnitude = [&](int64_t i) {
    const C* w = i < count ? at(i) : nullptr;
    return w ? fabs(static_cast<double>(*w)) : 0.0;
  };
  double total = 0, next = magnitude(lane);
  for (int64_t i0 = 0; i0 < count; i0 += 32) {
    const double value = next;
    next = magnitude(i0 + 32 + lane);
    for (int l = 0; l < 32; l++) total += __shfl_sync(~0u, value, l);
  }
  if (!(total > 0)) return;
  const double factor = norm / total;
  for (int64_t i = lane; i < count; i += 32)
    if (C* w = at(i)) *w = stdp_clamp(p, static_cast<C>(static_cast<double>(*w) * factor));
}

// The same for w[0], w[stride], ...
template <class C>
__device__ void normalize_row(const Plasticity<C>& p, C* w, int64_t count, int64_t stride, double norm) {
  normalize_weights(p, count, norm, [&](int64_t i) { return w + i * stride; });
}

}  // namespace
}  // namespace snnfast
