// Adaptive LIF: the neuron of leaky.h with the threshold A = v_threshold + beta a; the adaptation decays and grows by a spike,
// a = decay_adapt a + s. Bellec et al., Nature Communications 11 (2020): a solution to the learning dilemma.
#pragma once
#include "leaky.h"

#define SNNFAST_ALIF_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                    \
  FIELD(State, v)                     \
  FIELD(State, a)                     \
  FIELD(Parameter, decay)             \
  FIELD(Parameter, gain)              \
  FIELD(Parameter, v_threshold)       \
  FIELD(Parameter, v_reset)           \
  FIELD(Parameter, v_rest)            \
  FIELD(Parameter, beta)              \
  FIELD(Parameter, decay_adapt)       \
  SNNFAST_FIRING_ARGUMENTS(FIELD)
#define SNNFAST_ALIF_REFRACTORY  // the build makes it with a refractory period, too (refractory.h)

namespace snnfast {

struct Alif : Leaky {
  enum { kA = Leaky::kStates, kStates };
  enum { kBeta = Leaky::kParams, kDecayAdapt, kParams };
  enum { kScale = Leaky::kCoefficients, kLeakAdapt, kCoefficients };
  static constexpr int kTape = 2;
  static constexpr bool kMoves = true;

  template <class C, class Scan>
  static SNNFAST_HD void coefficients(const C* params, const Scan& a, C* c) {
    Leaky::coefficients(params, a, c);
    c[kScale] = params[kBeta];
    c[kLeakAdapt] = params[kDecayAdapt];
  }

  template <class C>
  static SNNFAST_HD C threshold(const C* charged, const C* c) {
    return c[kThreshold] + c[kScale] * charged[kA];
  }
  template <class C>
  static SNNFAST_HD void threshold_backward(const C* charged, const C* c, C grad_threshold, C* grad, C* grad_params) {
    grad_params[kVThreshold] += grad_threshold;
    grad_params[kBeta] += grad_threshold * charged[kA];
    grad[kA] += grad_threshold * c[kScale];
  }

  template <Reset R, class Spikes, class C>
  static SNNFAST_HD void fire(Spikes s, const C* c, C* state) {
    Leaky::fire<R>(s, c, state);
    state[kA] = c[kLeakAdapt] * state[kA] + times(s, C(1));
  }
  template <Reset R, class Spikes, class C>
  static SNNFAST_HD C fire_backward(Spikes s, const C* charged, const C* c, C attached, C* grad, C* grad_params) {
    const C grad_a = grad[kA];
    grad_params[kDecayAdapt] += grad_a * charged[kA];
    grad[kA] = grad_a * c[kLeakAdapt];
    return grad_a + Leaky::fire_backward<R>(s, charged, c, attached, grad, grad_params);
  }
};

}  // namespace snnfast
