// Quadratic integrate and fire: h = v + rate a0 (v - v_rest) (v - v_c) + gain x, then spike and reset as in leaky.h. Above v_c the
// membrane runs away. Gerstner et al., Neuronal Dynamics, section 5.3; the discretisation is SpikingJelly's.
#pragma once
#include "leaky.h"

#define SNNFAST_QIF_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                   \
  FIELD(State, v)                    \
  FIELD(Parameter, rate)             \
  FIELD(Parameter, gain)             \
  FIELD(Parameter, v_threshold)      \
  FIELD(Parameter, v_reset)          \
  FIELD(Parameter, v_rest)           \
  FIELD(Parameter, a0)               \
  FIELD(Parameter, v_c)              \
  SNNFAST_FIRING_ARGUMENTS(FIELD)

namespace snnfast {

struct Qif : Leaky {
  enum { kRate = Leaky::kDecay, kA0 = Leaky::kParams, kVC, kParams };  // the rate stands where leaky.h has the decay
  enum { kPull = Leaky::kLeak, kCurvature = Leaky::kCoefficients, kCritical, kCoefficients };
  static constexpr int kTape = 2, kLeft = 1;  // the membrane before the step

  template <class C, class Scan>
  static SNNFAST_HD void coefficients(const C* params, const Scan& a, C* c) {
    Leaky::coefficients(params, a, c);
    c[kCurvature] = params[kA0];
    c[kCritical] = params[kVC];
  }

  template <class C>
  static SNNFAST_HD void charge(C x, const C* c, C* state, C* left) {
    const C v = left[0] = state[kV];
    state[kV] = v + c[kPull] * (c[kCurvature] * ((v - c[kRest]) * (v - c[kCritical]))) + c[kOfInput] * x;
  }
  template <class C>
  static SNNFAST_HD C charge_backward(C x, const C*, const C* left, const C* c, const C*, C* grad, C* grad_params) {
    const C grad_h = grad[kV], over_rest = left[0] - c[kRest], over_critical = left[0] - c[kCritical];
    const C grad_pull = grad_h * c[kPull], grad_product = grad_pull * c[kCurvature];
    grad_params[kRate] += grad_h * (c[kCurvature] * (over_rest * over_critical));
    grad_params[kGain] += grad_h * x;
    grad_params[kA0] += grad_pull * (over_rest * over_critical);
    grad_params[kVRest] -= grad_product * over_critical;
    grad_params[kVC] -= grad_product * over_rest;
    grad[kV] = grad_h + grad_product * over_critical + grad_product * over_rest;
    return grad_h * c[kOfInput];
  }
};

}  // namespace snnfast
