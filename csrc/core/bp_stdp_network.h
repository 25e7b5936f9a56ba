// A network of integrate-and-fire neurons trained by BP-STDP (Tavanaei and Maida 2019).
#pragma once
#include <cstdint>

namespace snnfast {

constexpr int64_t kBpStdpLayers = 16;  // at most

struct BpStdpLayer {
  int64_t I, O;
  double threshold;
  void* w;       // [O, I]
  void* v;       // [P, O] membranes: of before, and after the call; or null
  bool* spikes;  // [T, P, O] zeros, from a sample to the next spikes_stride; or null
  int64_t spikes_stride;
};

struct BpStdpNetwork {
  int64_t T, P;
  int64_t batch;  // samples between changes of the weights, or more than there are
  int64_t span;   // steps between them: 1 or T
  int64_t epsilon;
  int64_t layers;
  double lr;
  bool is_double, mean, carry;  // carry: v holds membranes to go on from
  int32_t width;                // bytes of an input spike, 0 where they are drawn
  const void* x;                // [T, P, layer[0].I]; null: input spikes are drawn
  const float* hz;              // [P, layer[0].I]
  const int64_t* seeds;         // [P]
  float per_hz;                 // probability of a spike in a step at 1 Hz
  const int64_t* labels;        // [P]; null: nothing is learned
  const bool* desired;          // [T, P]
  BpStdpLayer layer[kBpStdpLayers];
};

// What an error of a presentation of B samples is multiplied by.
inline double bp_stdp_scale(const BpStdpNetwork& a, int64_t B) { return a.mean ? a.lr / static_cast<double>(B) : a.lr; }

}  // namespace snnfast
