// Adaptive LIF with two coupled states: the neuron of leaky.h with the input x - w; the adaptation current w follows the membrane
// and grows by a spike, w = decay_w w + gain_w (a (m - v_rest) + b s). Bittar and Garner, Frontiers in Neuroscience 16 (2022): m is the
// membrane before the reset. Baronig et al., Nature Communications 16 (2025), symplectic: after it.
#pragma once
#include "leaky.h"

#define SNNFAST_ADLIF_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                     \
  FIELD(State, v)                      \
  FIELD(State, w)                      \
  FIELD(Parameter, decay)              \
  FIELD(Parameter, gain)               \
  FIELD(Parameter, v_threshold)        \
  FIELD(Parameter, v_reset)            \
  FIELD(Parameter, v_rest)             \
  FIELD(Parameter, decay_w)            \
  FIELD(Parameter, gain_w)             \
  FIELD(Parameter, a)                  \
  FIELD(Parameter, b)                  \
  FIELD(bool, symplectic)              \
  SNNFAST_FIRING_ARGUMENTS(FIELD)
#define SNNFAST_ADLIF_REFRACTORY  // the build makes it with a refractory period, too (refractory.h)

namespace snnfast {

struct Adlif : Leaky {
  enum { kW = Leaky::kStates, kStates };
  enum { kDecayW = Leaky::kParams, kGainW, kA, kB, kParams };
  enum { kSymplectic = Leaky::kSettings, kSettings };
  enum { kLeakW = Leaky::kCoefficients, kOfDrive, kOfMembrane, kOfSpike, kAfterReset, kCoefficients };
  static constexpr int kTape = 2, kSpare = 1;

  template <class Arguments>
  static void settings(const Arguments& a, double* out) {
    Leaky::settings(a, out);
    out[kSymplectic] = a.symplectic;
  }

  template <class C, class Scan>
  static SNNFAST_HD void coefficients(const C* params, const Scan& a, C* c) {
    Leaky::coefficients(params, a, c);
    c[kLeakW] = params[kDecayW];
    c[kOfDrive] = params[kGainW];
    c[kOfMembrane] = params[kA];
    c[kOfSpike] = params[kB];
    c[kAfterReset] = static_cast<C>(a.settings[kSymplectic]);
  }

  template <class C>
  static SNNFAST_HD void charge(C x, const C* c, C* state, C* left) {
    Leaky::charge(x - state[kW], c, state, left);
  }
  template <class C>
  static SNNFAST_HD C charge_backward(C x, const C* before, const C* left, const C* c, const C* settings, C* grad, C* grad_params) {
    const C grad_input = Leaky::charge_backward(x - before[kW], before, left, c, settings, grad, grad_params);
    grad[kW] -= grad_input;
    return grad_input;
  }

  // What w is driven by: a (m - v_rest) + b s.
  template <class Spikes, class C>
  static SNNFAST_HD C drive(Spikes s, C m, const C* c) {
    return c[kOfMembrane] * (m - c[kRest]) + c[kOfSpike] * times(s, C(1));
  }

  template <Reset R, class Spikes, class C>
  static SNNFAST_HD void fire(Spikes s, const C* c, C* state) {
    const C h = state[kV];
    Leaky::fire<R>(s, c, state);
    state[kW] = c[kLeakW] * state[kW] + c[kOfDrive] * drive(s, c[kAfterReset] != C(0) ? state[kV] : h, c);
  }
  template <Reset R, class Spikes, class C>
  static SNNFAST_HD C fire_backward(Spikes s, const C* charged, const C* c, C attached, C* grad, C* grad_params) {
    const C grad_w = grad[kW], grad_drive = grad_w * c[kOfDrive], grad_m = grad_drive * c[kOfMembrane];
    C after[] = {charged[kV]};
    Leaky::fire<R>(s, c, after);
    const C m = c[kAfterReset] != C(0) ? after[kV] : charged[kV];
    grad_params[kDecayW] += grad_w * charged[kW];
    grad_params[kGainW] += grad_w * drive(s, m, c);
    grad_params[kA] += grad_drive * (m - c[kRest]);
    grad_params[kB] += times(s, grad_drive);
    grad_params[kVRest] -= grad_m;
    grad[kW] = grad_w * c[kLeakW];
    grad[kV] += c[kAfterReset] != C(0) ? grad_m : C(0);
    const C grad_reset = Leaky::fire_backward<R>(s, charged, c, attached, grad, grad_params);
    grad[kV] += c[kAfterReset] != C(0) ? C(0) : grad_m;
    return grad_drive * c[kOfSpike] + grad_reset;
  }
};

}  // namespace snnfast
