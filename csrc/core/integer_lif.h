// Leaky integrate-and-fire neurons in 32-bit integers.
#pragma once
#include <cstdint>

#include "neuron.h"

namespace snnfast {

constexpr int32_t kMostWholeCurrent = 1 << 29;  // largest magnitude of x * gain, and of a bias
constexpr int32_t kMostWholeMembrane = (1 << 30) - 1;
constexpr int32_t kWholeDecay = 1 << 15;  // a decay of 1

// Neuron n belongs to channel n / inner % channels.
struct IntegerLif {
  int64_t T, N, channels, inner;
  const int32_t* x;  // step t starts at x + t * time_stride
  int64_t time_stride;
  const int32_t *v, *gain, *bias;  // v: [N], or null for 0
  const int32_t* most;             // [channels]: largest magnitude of x
  int32_t decay, threshold, v_reset, limit;
  Reset reset;  // none: y holds int32 membranes, else int8 spikes
  void* y;
  int32_t* v_out;
};

struct IntegerLifFound {
  int64_t saturated, beyond;  // number of clamped membranes; number of currents that were too large
};

}  // namespace snnfast
