// The frame around a neuron's maths: what the scans over time (csrc/cpu, csrc/cuda) are given, and one step forward and
// backward, the same on every device. The maths itself is a struct a neuron (alif.h is the example), which holds all that
// the scans do not know:
//
//   enum { ..., kStates }        states; the first is the membrane
//   enum { ..., kParams }        parameters in the order of the operator's arguments: numbers, or tensors with gradients
//   enum { ..., kCoefficients }  what the maths needs of a neuron's parameters, computed once; kLeast among them, which the frame sets
//   enum { ..., kSettings }      numbers and flags that are the same for all neurons and have no gradient
//   settings                     these from the operator's arguments
//   kMoves                       the threshold changes with the charged states
//   kTape                        how many numbers of a step the functions *_backward read: of the charged states, from the first on, and
//   kLeft                        so many, the last of them, that charge leaves for charge_backward
//   kSpare                       so many of the charged states, the last of them, that they read for the gradients of parameters alone
//   kEach                        how many of the last parameters, and of the last coefficients, may be tensors in the kernel for numbers, too
//   kSeldom                      one kernel serves numbers and tensors and all surrogates: slower, and quick to build
//   coefficients                 coefficients of one neuron from its parameters
//   rest, rest_backward          the states of a neuron without input
//   charge, charge_backward      the states when the input has come, before a spike; returns dL/dx; reads `x` and `before` for the
//                                gradients of parameters alone, unless kSeldom
//   threshold, threshold_backward  at which membrane it fires, of the charged states
//   silent                       whether it cannot fire now, of the charged states
//   spikes                       how many spikes those are: the bool itself, or a number of type C
//   fire, fire_backward          what so many spikes do to every state; returns dL/d(spikes)
//
// The functions *_backward find in `grad` dL/d(states after) and leave dL/d(states before); they add to `grad_params`.
//
// A generated neuron (snnfast/compiler) is a whole step instead, for one reset and one surrogate, and has kWhole = true:
//
//   kEachCoefficients            how many of the last coefficients depend on the last kEach parameters
//   kMore                        whether it has more inputs and outputs than one (MoreRows)
//   kTape                        how many numbers `step` saves in `tape` for `step_backward`
//   coefficients, rest, rest_backward   as above
//   step                         states before -> after, in place; returns its first output
//   step_backward                in `grad`, dL/d(states after) -> dL/d(states before); adds to `grad_params`; returns dL/dx
#pragma once
#include <cstdint>
#include <type_traits>

#include "bit_cast.h"

// What the operator of every neuron takes after what is its own; types are those of ops/arguments.h.
#define SNNFAST_FIRING_ARGUMENTS(FIELD) \
  FIELD(bool, hard_reset)               \
  FIELD(bool, fires)                    \
  FIELD(bool, strict)                   \
  FIELD(SurrogateChoice, surrogate)     \
  FIELD(bool, detach_reset)             \
  FIELD(bool, return_state)             \
  FIELD(bool, return_v_seq)

namespace snnfast {

enum class Dtype : int32_t { f32, f64, bf16, f16 };

enum class Reset : int32_t { hard, soft, none };  // none: a leaky readout, it never fires

// A sequence of rows, one per time step: element (t, n) stands at data[t * time_stride + n * inner_stride].
// inner_stride is 1, or 0 for a row that repeats one value; time_stride 0 repeats one row.
struct Rows {
  const void* data;
  Dtype dtype;
  int64_t time_stride, inner_stride;
};

// A parameter of neuron n: data[(n / inner) % count] in the compute type, or value for every neuron where data is null.
struct Param {
  const void* data;
  double value;
  int64_t count, inner;
};

constexpr int kMostStates = 16;
// Inputs and outputs of a generated neuron besides the first of each. Each has a place among the states: an input is read into it
// before a step, an output is written from it after a step. data is null at the other places.
struct MoreRows {
  Rows inputs[kMostStates];
  void* outputs[kMostStates];      // [T, N] in C
  Rows grad_outputs[kMostStates];  // in C
  void* grad_inputs[kMostStates];  // [T, N] in the dtype of x
};

// The compute type C is double for f64 and float for every other dtype. All state is in C.
template <class Neuron>
struct NeuronScan {
  int64_t T, N;
  int64_t N_all;                          // neurons of the whole call, of which these are N (ops/pooled.h): rows of checkpoints and gradients are so long
  Rows x;                                 // [T, N]
  const void* state_in[Neuron::kStates];  // [N], null: at rest
  const void* checkpoints;                // [(T - 1) / checkpoint_every, states, N]: the state before step k * checkpoint_every, k >= 1
  int64_t checkpoint_every;               // 0: none are kept
  Param param[Neuron::kParams];
  double settings[Neuron::kSettings];
  Reset reset;
  const MoreRows* more;  // null: none

  // Whether every parameter is a number, but for the last kEach: all neurons share the coefficients of these, which have no gradient.
  SNNFAST_HD bool uniform() const {
    bool all = true;
    for (int k = 0; k < Neuron::kParams - Neuron::kEach; k++) all = all && !param[k].data;
    return all;
  }
};

template <class Neuron>
struct NeuronForward : NeuronScan<Neuron> {
  void* spikes;                      // [T, N] in x's dtype, null for Reset::none
  void* state_out[Neuron::kStates];  // [N] or null
  void* v_seq;                       // [T, N] in C or null
  void* checkpoints_out;
};

template <class Neuron>
struct NeuronBackward : NeuronScan<Neuron> {
  Rows grad_spikes, grad_v_seq;                 // data is null where there is none
  const void* grad_state_out[Neuron::kStates];  // [N] or null
  int32_t surrogate;
  double alpha;
  bool detach_reset;
  void* grad_x;                          // [T, N_all] in x's dtype; of an x that repeats its mean over the steps, [N_all]
  bool x_repeats;                        // false on a GPU
  void* grad_state_in[Neuron::kStates];  // [N] or null
  void* grad_param[Neuron::kParams];     // [N] or null: per neuron, summed over time
};

constexpr int64_t kNeuronBlock = 256;  // neurons that a CPU takes through all steps at a time; one tape of 32 steps in float is 32 KiB
// Rows of that tape a step, at most: what the backward pass reads of the charged states, x, and the states before the step.
template <class Neuron>
constexpr int64_t kNeuronTapeRows = Neuron::kTape + 1 + Neuron::kStates;

namespace {

// Whether a neuron is generated as a whole step.
template <class Neuron, class = void>
constexpr bool kWhole = false;
template <class Neuron>
constexpr bool kWhole<Neuron, std::enable_if_t<Neuron::kWhole>> = true;

// Whether a neuron has more inputs and outputs than one.
template <class Neuron>
constexpr bool has_more() {
  if constexpr (kWhole<Neuron>)
    return Neuron::kMore;
  else
    return false;
}

template <class C>
SNNFAST_HD C param_of_neuron(const Param& p, int64_t n) {
  return p.data ? static_cast<const C*>(p.data)[n / p.inner % p.count] : static_cast<C>(p.value);
}

// Whether a parameter is the same for all neurons.
template <class Neuron, bool Uniform>
SNNFAST_HD constexpr bool shared_parameter(int k) {
  return Uniform && k < Neuron::kParams - Neuron::kEach;
}
// Whether a coefficient is.
template <class Neuron, bool Uniform>
SNNFAST_HD constexpr bool shared_coefficient(int k) {
  if constexpr (kWhole<Neuron>)
    return Uniform && k < Neuron::kCoefficients - Neuron::kEachCoefficients;
  else
    return Uniform && k < Neuron::kCoefficients - Neuron::kEach;
}

// Whether kLeast is the least membrane that fires, so that to compare with it is all that a step does; else it is the least margin
// above the threshold. On a GPU the subtraction costs less than the register for one number more.
#if defined(__CUDACC__) || defined(SNNFAST_CUDA_EMULATION)
template <class Neuron>
constexpr bool kByMembrane = false;
#else
template <class Neuron>
constexpr bool kByMembrane = !Neuron::kMoves;
#endif

// The margin at which a neuron fires: 0, or strictly above, the least number that is kept where denormal ones are flushed.
template <class C>
SNNFAST_HD C least_margin(bool strict) {
  return strict ? (sizeof(C) == 8 ? C(2.2250738585072014e-308) : C(1.17549435e-38)) : C(0);
}

// The next number above x, which is not 0.
SNNFAST_HD float next_above(float x) { return bit_cast<float>(bit_cast<uint32_t>(x) + (x > 0 ? 1 : -1)); }
SNNFAST_HD double next_above(double x) { return bit_cast<double>(bit_cast<uint64_t>(x) + (x > 0 ? 1 : -1)); }

// The least membrane of which `membrane - threshold >= margin`. Above an infinite threshold comes NaN, which no membrane reaches; above
// one of minus infinity all but itself.
template <class C>
SNNFAST_HD C least_membrane(C threshold, C margin) {
  const C least = threshold + margin;
  return least - threshold >= margin || least != least ? least : next_above(least);
}

template <class Neuron, class C>
SNNFAST_HD void neuron_settings(const NeuronScan<Neuron>& a, C* settings) {
  SNNFAST_UNROLL
  for (int k = 0; k < Neuron::kSettings; k++) settings[k] = static_cast<C>(a.settings[k]);
}

// The coefficients that go with a neuron's parameters.
template <class Neuron, class C>
SNNFAST_HD void neuron_coefficients(const NeuronScan<Neuron>& a, const C* params, C* c) {
  Neuron::coefficients(params, a, c);
  if constexpr (!kWhole<Neuron>) c[Neuron::kLeast] = least_margin<C>(a.settings[Neuron::kStrict] != 0);
  if constexpr (!kWhole<Neuron> && kByMembrane<Neuron>)
    c[Neuron::kLeast] = least_membrane(Neuron::threshold(static_cast<const C*>(nullptr), c), c[Neuron::kLeast]);
}

// The coefficients of neuron n.
template <class Neuron, class C>
SNNFAST_HD void neuron_coefficients(const NeuronScan<Neuron>& a, int64_t n, C* c) {
  C params[Neuron::kParams];
  SNNFAST_UNROLL
  for (int k = 0; k < Neuron::kParams; k++) params[k] = param_of_neuron<C>(a.param[k], n);
  neuron_coefficients(a, params, c);
}

// s x, where s says whether there is a spike, or how many.
template <class C>
SNNFAST_HD C times(bool s, C x) {
  return s ? x : C(0);
}
template <class C>
SNNFAST_HD C times(C s, C x) {
  return s != C(0) ? s * x : C(0);
}

// How far the charged membrane is above the threshold: where the surrogate's slope is taken.
template <class Neuron, class C>
SNNFAST_HD C neuron_margin(const C* charged, const C* c) {
  return charged[0] - Neuron::threshold(charged, c);
}

template <class Neuron, class C>
SNNFAST_HD auto neuron_spikes(const C* charged, const C* c) {
  return Neuron::spikes((kByMembrane<Neuron> ? charged[0] : neuron_margin<Neuron>(charged, c)) >= c[Neuron::kLeast], charged, c);
}

// One step: states before -> after. `charged` gets the kTape numbers that the backward pass reads. Returns its spikes.
template <class Neuron, Reset R, class C>
SNNFAST_HD C neuron_step(C x, const C* c, C* state, C* charged) {
  if constexpr (kWhole<Neuron>) {
    return Neuron::step(x, c, state, charged);
  } else {
    constexpr int kCharged = Neuron::kTape - Neuron::kLeft;
    Neuron::charge(x, c, state, charged + kCharged);
    SNNFAST_UNROLL
    for (int k = 0; k < kCharged; k++) charged[k] = state[k];
    if constexpr (R == Reset::none) {
      return C(0);
    } else {
      const auto spikes = neuron_spikes<Neuron>(state, c);
      Neuron::template fire<R>(spikes, c, state);
      return times(spikes, C(1));
    }
  }
}

// The gradient of one step. Flags (settings, attached: whether the gradient goes through the spike into the reset) are numbers
// that are 0 or not: a loop over neurons with a bool as a condition is not vectorised. grad: dL/d(states after) on entry,
// dL/d(states before) on return. Adds to grad_params; returns dL/dx.
template <class Neuron, Reset R, class C>
SNNFAST_HD C neuron_step_backward(C x, const C* before, const C* charged, const C* c, const C* settings, C grad_spike, C slope, C attached, C* grad,
                                  C* grad_params) {
  if constexpr (kWhole<Neuron>) {
    return Neuron::step_backward(charged, c, grad_spike, grad, grad_params);
  } else {
    if constexpr (R != Reset::none) {
      const auto spikes = neuron_spikes<Neuron>(charged, c);
      const C grad_spikes = grad_spike + Neuron::template fire_backward<R>(spikes, charged, c, attached, grad, grad_params);
      const C grad_margin = Neuron::silent(charged) ? C(0) : grad_spikes * slope;
      grad[0] += grad_margin;
      Neuron::threshold_backward(charged, c, -grad_margin, grad, grad_params);
    }
    return Neuron::charge_backward(x, before, charged + Neuron::kTape - Neuron::kLeft, c, settings, grad, grad_params);
  }
}

}  // namespace
}  // namespace snnfast
