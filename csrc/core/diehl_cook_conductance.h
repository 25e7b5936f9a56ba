// The network of Diehl and Cook (2015) with conductances: settings of a call, and one step of one membrane.
#pragma once
#include "core/exp.h"
#include "core/plasticity.h"
#include "core/presentations.h"

#define SNNFAST_POPULATION_ARGUMENTS(FIELD) \
  SNNFAST_POPULATION_NUMBERS(FIELD)         \
  FIELD(int64_t, refractory)
#define SNNFAST_POPULATION_NUMBERS(FIELD) \
  FIELD(double, rate)                     \
  FIELD(double, v_rest)                   \
  FIELD(double, v_reset)                  \
  FIELD(double, v_threshold)

#define SNNFAST_CONDUCTANCES_ARGUMENTS(FIELD) \
  FIELD(double, e_exc)                        \
  FIELD(double, e_inh)                        \
  FIELD(double, decay_exc)                    \
  FIELD(double, decay_inh)                    \
  FIELD(double, mean_exc)                     \
  FIELD(double, mean_inh)                     \
  FIELD(double, w_exc_inh)                    \
  FIELD(double, w_inh_exc)

namespace snnfast {

// State of the network between steps; pointers that were not requested are null. Shapes as in
// snnfast/reference/diehl_cook_conductance.py.
struct DiehlCookConductanceState {
  void *v, *g_exc, *g_inh;
  int32_t* refractory;
  void *v_inh, *g_exc_inh;
  int32_t* refractory_inh;
  void *trace_pre, *trace_pre2, *trace_post, *trace_post2;
  bool* last_inputs;
};

#define SNNFAST_PLAIN_FIELD(TYPE, NAME) TYPE NAME;
#define SNNFAST_COPIED_FIELD(TYPE, NAME) to.NAME = from.NAME;
// Membranes of one population; rate: dt / tau, refractory in steps.
struct Population {
  SNNFAST_POPULATION_ARGUMENTS(SNNFAST_PLAIN_FIELD)
};
template <class Arguments>
Population population(const Arguments& from) {
  Population to;
  SNNFAST_POPULATION_ARGUMENTS(SNNFAST_COPIED_FIELD)
  return to;
}
// Of both populations. decay: over one step; mean: average over one step of a conductance that starts at 1.
struct Conductances {
  SNNFAST_CONDUCTANCES_ARGUMENTS(SNNFAST_PLAIN_FIELD)
};
template <class Arguments>
Conductances conductances(const Arguments& from) {
  Conductances to;
  SNNFAST_CONDUCTANCES_ARGUMENTS(SNNFAST_COPIED_FIELD)
  return to;
}
#undef SNNFAST_PLAIN_FIELD
#undef SNNFAST_COPIED_FIELD

#define SNNFAST_COUNTED_FIELD(TYPE, NAME) +1
#define SNNFAST_READ_FIELD(TYPE, NAME) to.NAME = *from++;
// Numbers of a network; they may differ between the networks of a call, except the refractory steps.
struct DiehlCookConductanceNumbers {
  Plasticity<double> rule;
  double norm;
  Population exc, inh;
  Conductances g;
  double theta_plus, theta_decay;

  static constexpr int64_t kCount =
      3 SNNFAST_PLASTICITY_NUMBERS(SNNFAST_COUNTED_FIELD) +
      2 * (0 SNNFAST_POPULATION_NUMBERS(SNNFAST_COUNTED_FIELD))SNNFAST_CONDUCTANCES_ARGUMENTS(SNNFAST_COUNTED_FIELD);
  // Reads kCount numbers in this order.
  SNNFAST_HD void read(const double* from) {
    read_rule(rule, from);
    norm = *from++;
    read_population(exc, from), read_population(inh, from);
    Conductances& to = g;
    SNNFAST_CONDUCTANCES_ARGUMENTS(SNNFAST_READ_FIELD)
    theta_plus = *from++, theta_decay = *from++;
  }

 private:
  SNNFAST_HD static void read_population(Population& to, const double*& from) {
    SNNFAST_POPULATION_NUMBERS(SNNFAST_READ_FIELD)
  }
};
#undef SNNFAST_COUNTED_FIELD
#undef SNNFAST_READ_FIELD

struct DiehlCookConductance : DiehlCookConductanceNumbers {
  int64_t networks;  // independent networks; fields describe the first one, the others follow it in memory
  void* w;           // [N, I]
  int64_t N, w_stride_network, w_stride_neuron, w_stride_input;
  bool is_double;
  double* theta;  // [N]
  Presentations x;
  int64_t rest_steps;
  const uint8_t* delays;  // [N, I] in steps, or null: no delays
  int64_t longest_delay;  // longer delays are clamped to it
  const double* numbers;  // [K, kCount] numbers of each network, in place of those here; or null
  bool learns;            // apply the learning rule
  DiehlCookConductanceState state;
  bool carry;         // start from `state`; else each presentation starts at rest
  bool return_state;  // write the state after the last presentation
  int32_t* counts;    // [P, N], zeroed
  bool* spikes;       // [P, T + rest_steps, N]; or null

  // Call of network k alone.
  SNNFAST_HD DiehlCookConductance network(int64_t k) const {
    DiehlCookConductance a = *this;
    const int64_t n = k * N, i = k * x.I;
    const auto move = [&](void*& values, int64_t by) {
      values = static_cast<char*>(values) + by * (is_double ? 8 : 4);
    };
    a.networks = 1;
    if (numbers) a.read(numbers + k * kCount), a.numbers = nullptr;
    move(a.w, k * w_stride_network);
    a.theta += n;
    a.x = x.network(k);
    if (delays) a.delays += n * x.I;
    a.counts += n * x.P;
    if (spikes) a.spikes += n * x.P * steps();
    if (!state.v) return a;
    DiehlCookConductanceState& s = a.state;
    move(s.v, n), move(s.g_exc, n), move(s.g_inh, n), move(s.v_inh, n), move(s.g_exc_inh, n), move(s.trace_post, n),
        move(s.trace_post2, n);
    move(s.trace_pre, i * history()), move(s.trace_pre2, i * history());
    s.refractory += n, s.refractory_inh += n, s.last_inputs += i * longest_delay;
    return a;
  }
  SNNFAST_HD int64_t steps() const { return x.T + rest_steps; }
  SNNFAST_HD int64_t history() const { return longest_delay + 1; }  // steps of inputs that may arrive in one step
  SNNFAST_HD bool changes() const { return learns || theta_plus != 0 || theta_decay != 1; }
  // Whether a presentation depends on the one before.
  SNNFAST_HD bool in_order() const { return changes() || carry; }
  SNNFAST_HD int64_t delay(int64_t n, int64_t i) const {
    const int64_t d = delays ? delays[n * x.I + i] : 0;
    return min(d, longest_delay);
  }
};

namespace {

// Decaying values below this are set to 0 before they become subnormal, which slows processors down a hundredfold.
template <class C>
SNNFAST_HD C fade(C x, C decay) {
  x *= decay;
  return x < C(1e-30) ? C(0) : x;
}

// Membrane potential after a step, from the total conductance and `pull`, the sum of reversal potentials weighted by
// their conductances. Exact for constant conductances.
template <class C>
SNNFAST_HD C conductance_charge(C v, C total, C pull, C minus_rate) {
  const C target = pull / total;
  return target + (v - target) * exp_nonpositive(total * minus_rate);
}

}  // namespace
}  // namespace snnfast
