// A neuron that is silent for some steps after it has fired, and may fire several times in a step. Its state r counts the steps
// of silence that are left; meanwhile the membrane stays where the reset left it, whatever comes, and has no gradient by what
// comes. The other states (a synaptic current, an adaptation) go on. So do Brian2's "(unless refractory)", NEST and Norse.
// Of several spikes there is one at each whole multiple k of the threshold: s = k - 1 + (1 if h >= k threshold else 0), where k is
// the multiple that is nearest to h, at least 1 and at most max_spikes; the surrogate's slope is taken there (Weidel and Sheik
// 2021, arXiv 2111.01456: periodic).
#pragma once
#include "neuron.h"

// What the operator takes after the arguments of the neuron.
#define SNNFAST_REFRACTORY_ARGUMENTS(FIELD) \
  FIELD(State, r)                           \
  FIELD(int64_t, refractory)                \
  FIELD(double, max_spikes)

namespace snnfast {

template <class Neuron>
struct Refractory : Neuron {
  enum { kR = Neuron::kStates, kStates };
  enum { kPeriod = Neuron::kSettings, kMaxSpikes, kSettings };
  enum { kSilence = Neuron::kCoefficients, kMost, kCoefficients };
  static constexpr int kTape = kStates + Neuron::kLeft, kSpare = 0;
  static constexpr bool kMoves = true, kSeldom = true;

  template <class Arguments>
  static void settings(const Arguments& a, double* out) {
    Neuron::settings(a, out);
    out[kPeriod] = static_cast<double>(a.refractory);
    out[kMaxSpikes] = a.max_spikes;
  }

  template <class C, class Scan>
  static SNNFAST_HD void coefficients(const C* params, const Scan& a, C* c) {
    Neuron::coefficients(params, a, c);
    c[kSilence] = static_cast<C>(a.settings[kPeriod]);
    c[kMost] = static_cast<C>(a.settings[kMaxSpikes]);
  }

  template <class C>
  static SNNFAST_HD bool silent(const C* charged) {
    return charged[kR] > C(0);
  }

  template <class C>
  static SNNFAST_HD void charge(C x, const C* c, C* state, C* left) {
    const C held = state[0];
    Neuron::charge(x, c, state, left);
    state[0] = silent(state) ? held : state[0];
  }
  template <class C>
  static SNNFAST_HD C charge_backward(C x, const C* before, const C* left, const C* c, const C* settings, C* grad, C* grad_params) {
    const C grad_held = silent(before) ? grad[0] : C(0);
    grad[0] = silent(before) ? C(0) : grad[0];
    grad[kR] = C(0);
    const C grad_x = Neuron::charge_backward(x, before, left, c, settings, grad, grad_params);
    grad[0] += grad_held;
    return grad_x;
  }

  // The whole number nearest to x, which is not negative; of two the even one. Exact, and without a call.
  template <class C>
  static SNNFAST_HD C nearest(C x) {
    const C whole = sizeof(C) == 8 ? C(4503599627370496.) : C(8388608.);  // from here on every number is
    return x < whole ? (x + whole) - whole : x;
  }
  template <class C>
  static SNNFAST_HD C multiple(const C* charged, const C* c) {
    const C k = nearest(charged[0] / Neuron::threshold(charged, c));
    return k > C(1) ? (k < c[kMost] ? k : c[kMost]) : C(1);
  }

  template <class C>
  static SNNFAST_HD C threshold(const C* charged, const C* c) {
    return multiple(charged, c) * Neuron::threshold(charged, c);
  }
  template <class C>
  static SNNFAST_HD void threshold_backward(const C* charged, const C* c, C grad_threshold, C* grad, C* grad_params) {
    Neuron::threshold_backward(charged, c, multiple(charged, c) * grad_threshold, grad, grad_params);
  }
  template <class C>
  static SNNFAST_HD C spikes(bool fires, const C* charged, const C* c) {
    return silent(charged) ? C(0) : (multiple(charged, c) - C(1)) + (fires ? C(1) : C(0));
  }

  template <Reset R, class C>
  static SNNFAST_HD void fire(C s, const C* c, C* state) {
    Neuron::template fire<R>(s, c, state);
    state[kR] = s != C(0) ? c[kSilence] : state[kR] > C(1) ? state[kR] - C(1) : C(0);
  }
};

}  // namespace snnfast
