// Frame around the equations of a neuron: arguments of the scans over time (csrc/cpu, csrc/cuda). The equations are a
// struct that snnfast/compiler generates: for a neuron of the package at build time (snnfast/compiler/neurons.py), for
// a user's neuron at run time. It contains everything that is specific to the neuron:
//
//   enum { ..., kStates }        states; the first is the membrane
//   enum { ..., kParams }        in the order of the operator's arguments: numbers, or tensors with gradients
//   enum { ..., kSettings }      numbers and flags that are the same for all neurons and have no gradient
//   enum { ..., kCoefficients }  values computed once from the parameters; the scans set kLeast, if there is one
//   kEach, kEachCoefficients     number of parameters, the last ones, that may be tensors if Uniform, and number of
//                                coefficients, also the last ones, that depend on them
//   kTape<Uniform>               number of values of a step that `step_backward` reads
//   kMoves                       the threshold is not a coefficient
//   kTakesSlope                  `step_backward` takes the surrogate's slope at `margin`; else it computes the slope
//   kReads                       there is a kernel for a readout, which never fires: Reset::none
//   kFirstInput, kFirstOutput    first rows of further inputs and of further outputs, behind the states (MoreRows)
//   kGeneric                     one kernel for numbers, tensors and all surrogates: slower, but quick to compile
//   kPrefetch                    CUDA kernels load inputs a group of steps ahead
//   kArguments                   arguments of its operators (NeuronArgument), for a neuron of the package
//   coefficients                 coefficients of one neuron from its parameters
//   rest, rest_backward          the states of a neuron without input
//   step                         states before -> after, in place; saves `tape`; returns its first output, the spikes
//   margin                       membrane potential minus threshold
//   step_backward                in `grad`, dL/d(states after) -> dL/d(states before); adds to `grad_params`;
//                                returns dL/dx. `attached`: 0 where no gradient goes through the spike into the reset
//
// The last three functions are for one kind of reset, and either for parameters that are numbers except the last kEach
// (Uniform) or for any parameters.
#pragma once
#include <cstdint>
#include <type_traits>

#include "bit_cast.h"

namespace snnfast {

enum class Dtype : int32_t { f32, f64, bf16, f16 };

enum class Reset : int32_t { hard, soft, none };  // none: a leaky readout, it never fires

// A sequence of rows, one per time step: element (t, n) is at data[t * time_stride + n * inner_stride].
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

// Whether a generated neuron has more than one input or output. They are rows of the states, inputs from kFirstInput
// and outputs from kFirstOutput on: an input is read into its row before a step, an output is written from its row
// after it.
template <class Neuron>
constexpr bool kHasMore = static_cast<int>(Neuron::kFirstInput) < static_cast<int>(Neuron::kStates);

template <class Neuron, bool = kHasMore<Neuron>>
struct MoreRows {};
template <class Neuron>
struct MoreRows<Neuron, true> {  // indexed as the states
  Rows more_inputs[Neuron::kStates];
  void* more_outputs[Neuron::kStates];      // [T, N] in C
  Rows more_grad_outputs[Neuron::kStates];  // in C; data is null without a gradient
  void* more_grad_inputs[Neuron::kStates];  // [T, N] in the dtype of x
};

// The compute type C is double for f64 and float for every other dtype. All state is in C.
template <class Neuron>
struct NeuronScan : MoreRows<Neuron> {
  int64_t T, N;
  Rows x;                                 // [T, N]
  const void* state_in[Neuron::kStates];  // [N]; null: at rest
  const void*
      checkpoints;  // [(T - 1) / checkpoint_every, states, N]: the state before step k * checkpoint_every, k >= 1
  int64_t checkpoint_every;  // 0: no checkpoints
  Param param[Neuron::kParams];
  double settings[Neuron::kSettings];
  Reset reset;

  // Whether all parameters except the last kEach are numbers: all neurons share their coefficients, and they have no
  // gradient.
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
  Rows grad_spikes, grad_v_seq;                 // data is null without a gradient
  const void* grad_state_out[Neuron::kStates];  // [N] or null
  int32_t surrogate;
  double alpha;
  bool detach_reset;
  void* grad_x;                          // [T, N] in x's dtype; with x_repeats [N]
  bool x_repeats;                        // grad_x is the mean over time; false on a GPU
  void* grad_state_in[Neuron::kStates];  // [N] or null
  void* grad_param[Neuron::kParams];     // [N] or null: per neuron, summed over time
};

constexpr int64_t kNeuronBlock = 256;  // neurons of a block of the CPU kernels
// Maximum number of tape rows of a step.
template <class Neuron>
constexpr int64_t kNeuronTapeRows =
    Neuron::template kTape<true> > Neuron::template kTape<false> ? Neuron::template kTape<true>
                                                                 : Neuron::template kTape<false>;

namespace {

template <class C>
SNNFAST_HD C param_of_neuron(const Param& p, int64_t n) {
  return p.data ? static_cast<const C*>(p.data)[n / p.inner % p.count] : static_cast<C>(p.value);
}

// Whether a parameter is the same for all neurons.
template <class Neuron, bool Uniform>
SNNFAST_HD constexpr bool shared_parameter(int k) {
  return Uniform && k < Neuron::kParams - Neuron::kEach;
}
// Whether a coefficient is the same for all neurons.
template <class Neuron, bool Uniform>
SNNFAST_HD constexpr bool shared_coefficient(int k) {
  return Uniform && k < Neuron::kCoefficients - Neuron::kEachCoefficients;
}

// Whether kLeast is the least membrane potential that fires, so that a step needs only a comparison; else it is the
// least margin above the threshold. On a GPU the subtraction costs less than a register for another number.
#if defined(__CUDACC__) || defined(SNNFAST_CUDA_EMULATION)
template <class Neuron>
constexpr bool kByMembrane = false;
#else
template <class Neuron>
constexpr bool kByMembrane = !Neuron::kMoves;
#endif

// Least margin at which a neuron fires: 0, or if `strict` the least positive number that is not flushed as subnormal.
template <class C>
SNNFAST_HD C least_margin(bool strict) {
  return strict ? (sizeof(C) == 8 ? C(2.2250738585072014e-308) : C(1.17549435e-38)) : C(0);
}

// Next number above x, for x other than 0.
SNNFAST_HD float next_above(float x) { return bit_cast<float>(bit_cast<uint32_t>(x) + (x > 0 ? 1 : -1)); }
SNNFAST_HD double next_above(double x) { return bit_cast<double>(bit_cast<uint64_t>(x) + (x > 0 ? 1 : -1)); }

// Least membrane potential with `membrane - threshold >= margin`. For an infinite threshold it is NaN, which no
// membrane potential reaches; for minus infinity, the lowest finite number.
template <class C>
SNNFAST_HD C least_membrane(C threshold, C margin) {
  const C least = threshold + margin;
  return least - threshold >= margin || least != least ? least : next_above(least);
}

// Coefficients from the parameters of a neuron.
template <class Neuron, class C>
SNNFAST_HD void neuron_coefficients(const NeuronScan<Neuron>& a, const C* params, C* c) {
  Neuron::coefficients(params, a, c);
  if constexpr (Neuron::kTakesSlope) {
    c[Neuron::kLeast] = least_margin<C>(a.settings[Neuron::kOfStrict] != 0);
    if constexpr (kByMembrane<Neuron>) c[Neuron::kLeast] = least_membrane(Neuron::threshold(c), c[Neuron::kLeast]);
  }
}

// Coefficients of neuron n.
template <class Neuron, class C>
SNNFAST_HD void neuron_coefficients(const NeuronScan<Neuron>& a, int64_t n, C* c) {
  C params[Neuron::kParams];
  SNNFAST_UNROLL
  for (int k = 0; k < Neuron::kParams; k++) params[k] = param_of_neuron<C>(a.param[k], n);
  neuron_coefficients(a, params, c);
}

}  // namespace
}  // namespace snnfast
