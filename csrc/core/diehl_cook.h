// The network of Diehl and Cook (2015) with current-based synapses: settings of a call, and one step of one neuron.
#pragma once
#include "core/plasticity.h"
#include "core/presentations.h"

namespace snnfast {

// State of the network between steps; pointers that were not requested are null. Shapes as in
// snnfast/reference/diehl_cook.py.
struct DiehlCookState {
  void* v;
  int32_t* refractory;
  void *trace_pre, *trace_pre2, *trace_post, *trace_post2;
  bool *last_input, *last_spikes;
};

// Numbers of a network besides those of its rule; they may differ between the networks of a call.
#define SNNFAST_DIEHL_COOK_NUMBERS(FIELD) \
  FIELD(double, norm)                     \
  FIELD(double, decay)                    \
  FIELD(double, v_threshold)              \
  FIELD(double, v_reset)                  \
  FIELD(double, inhibition)               \
  FIELD(double, theta_plus)               \
  FIELD(double, theta_decay)

#define SNNFAST_PLAIN_FIELD(TYPE, NAME) TYPE NAME;
#define SNNFAST_COUNTED_FIELD(TYPE, NAME) +1
#define SNNFAST_READ_FIELD(TYPE, NAME) to.NAME = *from++;
struct DiehlCookNumbers {
  Plasticity<double> rule;
  SNNFAST_DIEHL_COOK_NUMBERS(SNNFAST_PLAIN_FIELD)

  static constexpr int64_t kCount =
      0 SNNFAST_PLASTICITY_NUMBERS(SNNFAST_COUNTED_FIELD) SNNFAST_DIEHL_COOK_NUMBERS(SNNFAST_COUNTED_FIELD);
  // Reads kCount numbers in this order.
  SNNFAST_HD void read(const double* from) {
    read_rule(rule, from);
    DiehlCookNumbers& to = *this;
    SNNFAST_DIEHL_COOK_NUMBERS(SNNFAST_READ_FIELD)
  }
};
#undef SNNFAST_PLAIN_FIELD
#undef SNNFAST_COUNTED_FIELD
#undef SNNFAST_READ_FIELD

struct DiehlCook : DiehlCookNumbers {
  int64_t networks;  // independent networks; fields describe the first one, the others follow it in memory
  void* w;           // [N, I]
  int64_t N, w_stride_network, w_stride_neuron, w_stride_input;
  bool is_double;
  void* theta;  // [N]
  Presentations x;
  const double* numbers;  // [K, kCount] numbers of each network, in place of those here; or null
  bool learns;            // apply the learning rule
  int32_t refractory;
  int64_t inhibition_delay;
  bool one_winner;
  DiehlCookState state;
  bool carry;         // start from `state`; else each presentation starts at rest
  bool return_state;  // write the state after the last presentation
  int32_t* counts;    // [P, N], zeroed
  bool* spikes;       // [P, T, N], zeroed; or null

  // Call of network k alone.
  SNNFAST_HD DiehlCook network(int64_t k) const {
    DiehlCook a = *this;
    const int64_t n = k * N, i = k * x.I;
    const auto move = [&](void*& values, int64_t by) {
      values = static_cast<char*>(values) + by * (is_double ? 8 : 4);
    };
    a.networks = 1;
    if (numbers) a.read(numbers + k * kCount), a.numbers = nullptr;
    move(a.w, k * w_stride_network), move(a.theta, n);
    a.x = x.network(k);
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
  // Whether a presentation depends on the one before.
  SNNFAST_HD bool in_order() const { return learns || theta_plus != 0 || theta_decay != 1 || carry; }
};

namespace {

// Membrane potential after one step; `current` is the input current, 0 for a refractory neuron.
template <class C>
SNNFAST_HD C diehl_cook_charge(C v, C decay, C current) {
  return v * decay + current;
}

}  // namespace
}  // namespace snnfast
