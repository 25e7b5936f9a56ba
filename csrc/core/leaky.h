// The membrane of leaky integrate and fire, which lif.h is and other neurons extend: h = v_rest + decay (v - v_rest) + gain x; a spike
// where h >= v_threshold; then v = v_reset (hard reset) or h - v_threshold (soft reset). Gerstner et al., Neuronal Dynamics, section 1.3.
#pragma once
#include "neuron.h"

namespace snnfast {

// Neurons that extend it begin with its states, parameters, settings and coefficients.
struct Leaky {
  enum { kV, kStates };
  enum { kDecay, kGain, kVThreshold, kVReset, kVRest, kParams };
  enum { kStrict, kSettings };  // fires above the threshold, not at it
  enum { kLeast, kLeak, kOfInput, kThreshold, kResetTo, kRest, kCoefficients };
  static constexpr int kTape = 1, kLeft = 0, kSpare = 0, kEach = 0;
  static constexpr bool kMoves = false, kSeldom = false;

  template <class Arguments>
  static void settings(const Arguments& a, double* out) {
    out[kStrict] = a.strict;
  }

  template <class C, class Scan>
  static SNNFAST_HD void coefficients(const C* params, const Scan&, C* c) {
    c[kLeak] = params[kDecay];
    c[kOfInput] = params[kGain];
    c[kThreshold] = params[kVThreshold];
    c[kResetTo] = params[kVReset];
    c[kRest] = params[kVRest];
  }

  template <class C>
  static SNNFAST_HD C rest(int state, const C* c) {
    return state == kV ? c[kRest] : C(0);
  }
  template <class C>
  static SNNFAST_HD void rest_backward(int state, C grad, C* grad_params) {
    if (state == kV) grad_params[kVRest] += grad;
  }

  template <class C>
  static SNNFAST_HD void charge(C x, const C* c, C* state, C*) {
    state[kV] = c[kRest] + c[kLeak] * (state[kV] - c[kRest]) + c[kOfInput] * x;
  }
  template <class C>
  static SNNFAST_HD C charge_backward(C x, const C* before, const C*, const C* c, const C*, C* grad, C* grad_params) {
    const C grad_h = grad[kV];
    grad_params[kDecay] += grad_h * (before[kV] - c[kRest]);
    grad_params[kGain] += grad_h * x;
    grad_params[kVRest] += grad_h - grad_h * c[kLeak];
    grad[kV] = grad_h * c[kLeak];
    return grad_h * c[kOfInput];
  }

  template <class C>
  static SNNFAST_HD C threshold(const C*, const C* c) {
    return c[kThreshold];
  }
  template <class C>
  static SNNFAST_HD void threshold_backward(const C*, const C*, C grad_threshold, C*, C* grad_params) {
    grad_params[kVThreshold] += grad_threshold;
  }

  template <class C>
  static SNNFAST_HD bool silent(const C*) {
    return false;
  }
  template <class C>
  static SNNFAST_HD bool spikes(bool fires, const C*, const C*) {
    return fires;
  }

  // Spikes: bool, or C where there may be several.
  template <Reset R, class Spikes, class C>
  static SNNFAST_HD void fire(Spikes s, const C* c, C* state) {
    const C h = state[kV];
    state[kV] = s != 0 ? (R == Reset::hard ? c[kResetTo] : h - times(s, c[kThreshold])) : h;
  }
  template <Reset R, class Spikes, class C>
  static SNNFAST_HD C fire_backward(Spikes s, const C* charged, const C* c, C attached, C* grad, C* grad_params) {
    const C grad_v = grad[kV];
    const C through_reset = grad_v * (R == Reset::hard ? c[kResetTo] - charged[kV] : -c[kThreshold]);
    if constexpr (R == Reset::hard) {
      grad_params[kVReset] += s != 0 ? grad_v : C(0);
      grad[kV] = s != 0 ? C(0) : grad_v;
    } else {
      grad_params[kVThreshold] -= times(s, grad_v);
    }
    return attached != C(0) ? through_reset : C(0);
  }
};

}  // namespace snnfast
