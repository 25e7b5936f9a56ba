// The network of Diehl and Cook (2015) with conductances: settings of a call, and one step of one membrane.
#pragma once
#include "core/exp.h"
#include "core/plasticity.h"
#include "core/presentations.h"

namespace snnfast {

// What the network remembers from step to step; null pointers where nobody asked for it. Shapes as in
// snnfast/reference/diehl_cook_conductance.py.
struct DiehlCookConductanceState {
  void *v, *g_exc, *g_inh, *v_inh, *g_exc_inh;
  int32_t *refractory, *refractory_inh;
  void *trace_pre, *trace_pre2, *trace_post, *trace_post2;
  bool* last_inputs;
};

struct Population {
  double rate, v_rest, v_reset, v_threshold;  // rate: dt / tau
  int32_t refractory;
};

struct DiehlCookConductance {
  Presentations x;
  int64_t N, rest_steps;
  bool f64;
  void* w;  // [N, I]
  int64_t w_stride_neuron, w_stride_input;
  double* theta;          // [N]
  const uint8_t* delays;  // [N, I] steps, or null for none
  int64_t longest_delay;
  const Plasticity<double>* rule;  // null: nothing is learned
  Population exc, inh;
  double e_exc, e_inh, decay_exc, decay_inh, mean_exc, mean_inh, w_exc_inh, w_inh_exc, theta_plus, theta_decay, norm;
  DiehlCookConductanceState state;
  bool carry;       // go on from the state; else each presentation starts at rest
  int32_t* counts;  // [P, N], zeros
  bool* spikes;     // [P, T + rest_steps, N]; or null

  SNNFAST_HD int64_t steps() const { return x.T + rest_steps; }
  SNNFAST_HD int64_t history() const { return longest_delay + 1; }  // steps of inputs that arrive together
  SNNFAST_HD bool changes() const { return rule || theta_plus != 0 || theta_decay != 1; }
};

namespace {

// What fades is gone below this: before it would be subnormal, which slows processors down a hundredfold.
template <class C>
SNNFAST_HD C fade(C x, C decay) {
  x *= decay;
  return x < C(1e-30) ? C(0) : x;
}

// The membrane after a step: `total` conductance and what it pulls to, each with its weight. Exact for constant conductances.
template <class C>
SNNFAST_HD C conductance_charge(C v, C total, C pull, C minus_rate) {
  const C target = pull / total;
  return target + (v - target) * exp_nonpositive(total * minus_rate);
}

}  // namespace
}  // namespace snnfast
