// Izhikevich's neuron: the quadratic membrane of qif.h with the input x - w; w follows the membrane before the reset and grows by a
// spike, w = decay_w w + rate_w a (h - v_rest) + b s. Izhikevich, IEEE Transactions on Neural Networks 14 (2003); the
// discretisation is SpikingJelly's.
#pragma once
#include "qif.h"

#define SNNFAST_IZHIKEVICH_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                          \
  FIELD(State, v)                           \
  FIELD(State, w)                           \
  FIELD(Parameter, rate)                    \
  FIELD(Parameter, gain)                    \
  FIELD(Parameter, v_threshold)             \
  FIELD(Parameter, v_reset)                 \
  FIELD(Parameter, v_rest)                  \
  FIELD(Parameter, a0)                      \
  FIELD(Parameter, v_c)                     \
  FIELD(Parameter, decay_w)                 \
  FIELD(Parameter, rate_w)                  \
  FIELD(Parameter, a)                       \
  FIELD(Parameter, b)                       \
  SNNFAST_FIRING_ARGUMENTS(FIELD)

namespace snnfast {

struct Izhikevich : Qif {
  enum { kW = Qif::kStates, kStates };
  enum { kDecayW = Qif::kParams, kRateW, kA, kB, kParams };
  enum { kLeakW = Qif::kCoefficients, kPullW, kOfMembrane, kOfSpike, kCoefficients };
  static constexpr int kTape = 3, kSpare = 1;

  template <class C, class Scan>
  static SNNFAST_HD void coefficients(const C* params, const Scan& a, C* c) {
    Qif::coefficients(params, a, c);
    c[kLeakW] = params[kDecayW];
    c[kPullW] = params[kRateW];
    c[kOfMembrane] = params[kA];
    c[kOfSpike] = params[kB];
  }

  template <class C>
  static SNNFAST_HD void charge(C x, const C* c, C* state, C* left) {
    Qif::charge(x - state[kW], c, state, left);
  }
  template <class C>
  static SNNFAST_HD C charge_backward(C x, const C* before, const C* left, const C* c, const C* settings, C* grad, C* grad_params) {
    const C grad_input = Qif::charge_backward(x - before[kW], before, left, c, settings, grad, grad_params);
    grad[kW] -= grad_input;
    return grad_input;
  }

  template <Reset R, class Spikes, class C>
  static SNNFAST_HD void fire(Spikes s, const C* c, C* state) {
    const C h = state[kV];
    Leaky::fire<R>(s, c, state);
    state[kW] = c[kLeakW] * state[kW] + c[kPullW] * (c[kOfMembrane] * (h - c[kRest])) + c[kOfSpike] * times(s, C(1));
  }
  template <Reset R, class Spikes, class C>
  static SNNFAST_HD C fire_backward(Spikes s, const C* charged, const C* c, C attached, C* grad, C* grad_params) {
    const C grad_w = grad[kW], over_rest = charged[kV] - c[kRest], grad_m = grad_w * c[kPullW];
    grad_params[kDecayW] += grad_w * charged[kW];
    grad_params[kRateW] += grad_w * (c[kOfMembrane] * over_rest);
    grad_params[kA] += grad_m * over_rest;
    grad_params[kB] += times(s, grad_w);
    grad_params[kVRest] -= grad_m * c[kOfMembrane];
    grad[kW] = grad_w * c[kLeakW];
    const C grad_reset = Leaky::fire_backward<R>(s, charged, c, attached, grad, grad_params);
    grad[kV] += grad_m * c[kOfMembrane];
    return grad_w * c[kOfSpike] + grad_reset;
  }
};

}  // namespace snnfast
