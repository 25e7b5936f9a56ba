// Leaky integrator: h = v_rest + decay (v - v_rest) + gain x. Firing and reset are the scan's.
#pragma once
#include "host_device.h"
#include "neuron.h"

namespace snnfast {
namespace {

struct Lif {
  static constexpr int kStates = 1;  // v
  static constexpr int kMembrane = 0;
  static constexpr int kParams = 2;  // decay, v_threshold
  static constexpr int kCoefficients = 3;
  enum { kThreshold, kDecay, kGain };

  // params: the values of one neuron; tensor_decay: whether its decay came from a tensor.
  template <class C>
  static SNNFAST_HD void coefficients(const C* params, bool tensor_decay, const NeuronScan& a, C* c) {
    c[kThreshold] = params[1];
    c[kDecay] = params[0];
    c[kGain] = !tensor_decay ? static_cast<C>(a.gain) : a.decay_input ? C(1) - params[0] : C(1);
  }

  template <class C>
  static SNNFAST_HD void charge(C x, C* state, const C* c, C v_rest) {
    state[0] = v_rest + c[kDecay] * (state[0] - v_rest) + c[kGain] * x;
  }

  // grad: dL/d(state after charge) on entry, dL/d(state before charge) on return. Adds to grad_params; returns dL/dx.
  template <class C>
  static SNNFAST_HD C charge_backward(C x, const C* state, const C* c, C v_rest, bool decay_input, C* grad, C* grad_params) {
    const C grad_h = grad[0];
    grad_params[0] += grad_h * (state[0] - v_rest) - (decay_input ? grad_h * x : C(0));
    grad[0] = grad_h * c[kDecay];
    return grad_h * c[kGain];
  }
};

}  // namespace
}  // namespace snnfast
