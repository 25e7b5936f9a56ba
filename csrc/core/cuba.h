// Current-based LIF: i = decay_syn i + x, then the neuron of leaky.h with the current i for its input.
#pragma once
#include "leaky.h"

#define SNNFAST_CUBA_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                    \
  FIELD(State, v)                     \
  FIELD(State, i)                     \
  FIELD(Parameter, decay)             \
  FIELD(Parameter, gain)              \
  FIELD(Parameter, v_threshold)       \
  FIELD(Parameter, v_reset)           \
  FIELD(Parameter, v_rest)            \
  FIELD(Parameter, decay_syn)         \
  SNNFAST_FIRING_ARGUMENTS(FIELD)
#define SNNFAST_CUBA_REFRACTORY  // the build makes it with a refractory period, too (refractory.h)

namespace snnfast {

struct Cuba : Leaky {
  enum { kI = Leaky::kStates, kStates };
  enum { kDecaySyn = Leaky::kParams, kParams };
  enum { kLeakSyn = Leaky::kCoefficients, kCoefficients };

  template <class C, class Scan>
  static SNNFAST_HD void coefficients(const C* params, const Scan& a, C* c) {
    Leaky::coefficients(params, a, c);
    c[kLeakSyn] = params[kDecaySyn];
  }

  template <class C>
  static SNNFAST_HD void charge(C x, const C* c, C* state, C* left) {
    state[kI] = c[kLeakSyn] * state[kI] + x;
    Leaky::charge(state[kI], c, state, left);
  }
  template <class C>
  static SNNFAST_HD C charge_backward(C x, const C* before, const C* left, const C* c, const C* settings, C* grad, C* grad_params) {
    const C current = c[kLeakSyn] * before[kI] + x;
    const C grad_current = grad[kI] + Leaky::charge_backward(current, before, left, c, settings, grad, grad_params);
    grad_params[kDecaySyn] += grad_current * before[kI];
    grad[kI] = grad_current * c[kLeakSyn];
    return grad_current;
  }
};

}  // namespace snnfast
