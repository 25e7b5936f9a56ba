// A network of integrate-and-fire neurons trained by BP-STDP (Tavanaei and Maida 2019).
#pragma once
#include <cstdint>

#include "core/presentations.h"

namespace snnfast {

constexpr int64_t kBpStdpLayers = 16;  // at most

struct BpStdpLayer {
  int64_t I, O;
  double threshold;
  void* w;               // [O, I]
  const void* v_before;  // [P, O] membranes to go on from, where `carry`
  void* v_after;         // [P, O], where `return_state`
  bool* spikes;          // [T, P, O] zeros, from a sample to the next spikes_stride; or null
  int64_t spikes_stride;
};

struct BpStdpNetwork {
  Presentations x;
  int64_t batch;  // samples between changes of the weights, or more than there are
  int64_t span;   // steps between them: 1 or T
  int64_t epsilon;
  int64_t layers;
  double lr;
  bool is_double, mean, learns, carry, return_state;
  const int64_t* labels;  // [P], where it learns
  const bool* desired;    // [T, P]
  BpStdpLayer layer[kBpStdpLayers];
};

// What an error of a presentation of B samples is multiplied by.
inline double bp_stdp_scale(const BpStdpNetwork& a, int64_t B) { return a.mean ? a.lr / static_cast<double>(B) : a.lr; }

}  // namespace snnfast
