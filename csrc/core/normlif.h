// LIF whose input is normalised on its way in: the neuron of leaky.h with the input scale x + shift, each a number, or one for every
// channel, as batch normalisation has them (Ioffe and Szegedy 2015). Rounded as PyTorch's normalisation on the CPU rounds it.
#pragma once
#include "leaky.h"

#define SNNFAST_NORMLIF_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                       \
  FIELD(State, v)                        \
  FIELD(Parameter, decay)                \
  FIELD(Parameter, gain)                 \
  FIELD(Parameter, v_threshold)          \
  FIELD(Parameter, v_reset)              \
  FIELD(Parameter, v_rest)               \
  FIELD(Parameter, scale)                \
  FIELD(Parameter, shift)                \
  SNNFAST_FIRING_ARGUMENTS(FIELD)

namespace snnfast {

struct Normlif : Leaky {
  enum { kScale = Leaky::kParams, kShift, kParams };
  enum { kFactor = Leaky::kCoefficients, kSummand, kCoefficients };
  static constexpr int kEach = 2;

  template <class C, class Scan>
  static SNNFAST_HD void coefficients(const C* params, const Scan& a, C* c) {
    Leaky::coefficients(params, a, c);
    c[kFactor] = params[kScale];
    c[kSummand] = params[kShift];
  }

  template <class C>
  static SNNFAST_HD void charge(C x, const C* c, C* state, C* left) {
    Leaky::charge(c[kFactor] * x + c[kSummand], c, state, left);
  }
  template <class C>
  static SNNFAST_HD C charge_backward(C x, const C* before, const C* left, const C* c, const C* settings, C* grad, C* grad_params) {
    const C grad_input = Leaky::charge_backward(c[kFactor] * x + c[kSummand], before, left, c, settings, grad, grad_params);
    grad_params[kScale] += grad_input * x;
    grad_params[kShift] += grad_input;
    return grad_input * c[kFactor];
  }
};

}  // namespace snnfast
