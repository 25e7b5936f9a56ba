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
  int64_t networks;  // that know nothing of each other; what follows is the first one's, and after it come the others'
  void* w;           // [N, I]
  int64_t N, w_stride_network, w_stride_neuron, w_stride_input;
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

  // Network k, alone.
  SNNFAST_HD DiehlCook network(int64_t k) const {
    DiehlCook a = *this;
    const int64_t n = k * N, i = k * x.I;
    const auto move = [&](void*& values, int64_t by) { values = static_cast<char*>(values) + by * (f64 ? 8 : 4); };
    a.networks = 1;
    move(a.w, k * w_stride_network), move(a.theta, n);
    a.x = x.of(k);
    a.counts += n * x.P;
    if (spikes) a.spikes += n * x.P * steps();
    if (!state.v) return a;
    DiehlCookState& s = a.state;
    move(s.v, n), move(s.trace_post, n), move(s.trace_post2, n);
    move(s.trace_pre, i), move(s.trace_pre2, i);
    s.refractory += n, s.last_input += i, s.last_spikes += n * inhibition_delay;
    return a;
  }
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
