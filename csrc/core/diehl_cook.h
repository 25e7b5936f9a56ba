// The network of Diehl and Cook (2015) with current-based synapses: settings of a call, and one step of one neuron.
#pragma once
#include "core/plasticity.h"
#include "core/presentations.h"

namespace snnfast {

// What the network remembers from step to step; null pointers where nobody asked for it. [N] and [I] as in
// snnfast/reference/diehl_cook.py, last_spikes [inhibition_delay, N].
struct DiehlCookState {
  void *v, *trace_pre, *trace_pre2, *trace_post, *trace_post2;
  int32_t* refractory;
  bool *last_input, *last_spikes;
};

struct DiehlCook {
  Presentations x;
  int64_t N;
  bool f64;
  void* w;  // [N, I]
  int64_t w_stride_neuron, w_stride_input;
  void* theta;         // [N]
  const Plasticity<double>* rule;  // null: nothing is learned
  double decay, v_threshold, v_reset, inhibition, theta_plus, theta_decay, norm;
  int32_t refractory;
  int64_t inhibition_delay;
  bool one_winner;
  DiehlCookState state;
  bool carry;       // go on from the state; else each presentation starts at rest
  int32_t* counts;  // [P, N], zeros
  bool* spikes;     // [P, T, N], zeros; or null

  // Whether a step cannot end before all neurons have told whether they spike.
  SNNFAST_HD bool waits() const { return one_winner || inhibition_delay == 0; }
  // Steps after which it must be known.
  SNNFAST_HD int64_t lag() const { return inhibition_delay > 1 ? inhibition_delay : 1; }
};

namespace {

// The membrane after one step; `current` is what arrives at a neuron that is not refractory, else 0.
template <class C>
SNNFAST_HD C diehl_cook_charge(C v, C decay, C current) {
  return v * decay + current;
}

}  // namespace
}  // namespace snnfast
