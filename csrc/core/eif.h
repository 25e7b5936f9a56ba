// Exponential integrate and fire: h = v + rate (delta_t exp((v - theta_rh) / delta_t) - (v - v_rest)) + gain x, then spike and reset
// as in leaky.h. Gerstner et al., Neuronal Dynamics, section 5.2; the discretisation is SpikingJelly's.
#pragma once
#include <cmath>

#include "exp.h"
#include "leaky.h"

#define SNNFAST_EIF_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                   \
  FIELD(State, v)                    \
  FIELD(Parameter, rate)             \
  FIELD(Parameter, gain)             \
  FIELD(Parameter, v_threshold)      \
  FIELD(Parameter, v_reset)          \
  FIELD(Parameter, v_rest)           \
  FIELD(Parameter, delta_t)          \
  FIELD(Parameter, theta_rh)         \
  SNNFAST_FIRING_ARGUMENTS(FIELD)

namespace snnfast {

struct Eif : Leaky {
  enum { kRate = Leaky::kDecay, kDeltaT = Leaky::kParams, kThetaRh, kParams };  // the rate stands where leaky.h has the decay
  enum { kPull = Leaky::kLeak, kSharpness = Leaky::kCoefficients, kPerSharpness, kRheobase, kCoefficients };
  static constexpr int kTape = 2, kLeft = 1;  // the exponential

  template <class C, class Scan>
  static SNNFAST_HD void coefficients(const C* params, const Scan& a, C* c) {
    Leaky::coefficients(params, a, c);
    c[kSharpness] = params[kDeltaT];
    c[kPerSharpness] = C(1) / params[kDeltaT];
    c[kRheobase] = params[kThetaRh];
  }

  // exp(over / delta_t), at most what exp_nonpositive has an inverse of: e^87 in float.
  template <class C>
  static SNNFAST_HD C exponential(C over, const C* c) {
    const C z = over / c[kSharpness], small = exp_nonpositive(z < C(0) ? z : -z);
    return z < C(0) ? small : C(1) / small;
  }
#if defined(__CUDACC__) || defined(SNNFAST_CUDA_EMULATION)
  // The same bits, for a |delta_t| from 2^-77 to 2^126, without a division: the guess's remainder is exact where exp(z) is not 1.
  // Where the guess is infinite z is NaN, which fminf takes for 87.
  static SNNFAST_HD float exponential(float over, const float* c) {
    const float guess = over * c[kPerSharpness];
    const float z = fmaf(fmaf(guess, -c[kSharpness], over), c[kPerSharpness], guess), small = exp_within(-fminf(fabsf(z), 87.f));
    return guess < 0.f ? small : reciprocal(small);
  }
#endif

  template <class C>
  static SNNFAST_HD void charge(C x, const C* c, C* state, C* left) {
    const C v = state[kV], upstroke = c[kSharpness] * (left[0] = exponential(v - c[kRheobase], c));
    state[kV] = v + c[kPull] * (upstroke - (v - c[kRest])) + c[kOfInput] * x;
  }
  template <class C>
  static SNNFAST_HD C charge_backward(C x, const C* before, const C* left, const C* c, const C*, C* grad, C* grad_params) {
    const C grad_h = grad[kV], grad_pull = grad_h * c[kPull], over_rest = before[kV] - c[kRest];
    const C over = before[kV] - c[kRheobase], z = over / c[kSharpness], e = left[0], grad_e = grad_pull * e;
    grad_params[kRate] += grad_h * (c[kSharpness] * e - over_rest);
    grad_params[kGain] += grad_h * x;
    grad_params[kVRest] += grad_pull;
    grad_params[kDeltaT] += grad_e - grad_e * z;  // not grad_pull * (e - e * z): e * z may be infinite where grad_pull is 0
    grad_params[kThetaRh] -= grad_e;
    grad[kV] = grad_h + grad_pull * (e - C(1));
    return grad_h * c[kOfInput];
  }
};

}  // namespace snnfast
