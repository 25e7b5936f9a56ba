// The network of Diehl and Cook (2015) with current-based synapses: settings of a call, and one step of one neuron.
#pragma once
#include "core/plasticity.h"
#include "core/presentations.h"

namespace snnfast {

// What the network remembers from step to step; null pointers where nobody asked for it. Shapes as in
// snnfast/calls/diehl_cook.py.
struct DiehlCookState {
  void* v;
  int32_t* refractory;
  void *trace_pre, *trace_pre2, *trace_post, *trace_post2;
  bool *last_input, *last_spikes;
};

struct DiehlCook {
  void* w;  // [N, I]
  int64_t N, w_stride_neuron, w_stride_input;
  bool f64;
  void* theta;  // [N]
  Presentations x;
  const Plasticity<double>* rule;  // null: nothing is learned
  double norm, decay, v_threshold, v_reset;
  int32_t refractory;
  double inhibition;
  int64_t inhibition_delay;
  bool one_winner;
  double theta_plus, theta_decay;
  DiehlCookState state;
  bool carry;         // go on from the state; else each presentation starts at rest
  bool return_state;  // as it is after the last presentation
  int32_t* counts;    // [P, N], zeros
  bool* spikes;       // [P, T, N], zeros; or null

  SNNFAST_HD int64_t steps() const { return x.T; }
  // Whether a presentation finds what the one before left.
  SNNFAST_HD bool in_order() const { return rule || theta_plus != 0 || theta_decay != 1 || carry; }
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
