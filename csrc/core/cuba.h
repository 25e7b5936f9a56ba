// Current-based LIF: i = decay_syn i + x, then h = v_rest + decay (v - v_rest) + gain i. Firing and reset are the scan's.
#pragma once
#include "host_device.h"
#include "neuron.h"

namespace snnfast {
namespace {

struct Cuba {
  static constexpr int kStates = 2;  // v, i
  static constexpr int kMembrane = 0;
  static constexpr int kParams = 3;  // decay, v_threshold, decay_syn
  static constexpr int kCoefficients = 4;
  enum { kThreshold, kDecay, kGain, kDecaySyn };

  template <class C>
  static SNNFAST_HD void coefficients(const C* params, bool tensor_decay, const NeuronScan& a, C* c) {
    c[kThreshold] = params[1];
    c[kDecay] = params[0];
    c[kGain] = !tensor_decay ? static_cast<C>(a.gain) : a.decay_input ? C(1) - params[0] : C(1);
    c[kDecaySyn] = params[2];
  }

  template <class C>
  static SNNFAST_HD void charge(C x, C* state, const C* c, C v_rest) {
    state[1] = c[kDecaySyn] * state[1] + x;
    state[0] = v_rest + c[kDecay] * (state[0] - v_rest) + c[kGain] * state[1];
  }

  template <class C>
  static SNNFAST_HD C charge_backward(C x, const C* state, const C* c, C v_rest, bool decay_input, C* grad, C* grad_params) {
    const C current = c[kDecaySyn] * state[1] + x;
    const C grad_h = grad[0];
    const C grad_current = grad[1] + grad_h * c[kGain];
    grad_params[0] += grad_h * (state[0] - v_rest) - (decay_input ? grad_h * current : C(0));
    grad_params[2] += grad_current * state[1];
    grad[0] = grad_h * c[kDecay];
    grad[1] = grad_current * c[kDecaySyn];
    return grad_current;
  }
};

}  // namespace
}  // namespace snnfast
