// The frame around a neuron's maths: what the scans over time (csrc/cpu, csrc/cuda) are given. The maths itself is a
// struct that snnfast/compiler makes of the neuron's equation: of ours when the package is built
// (snnfast/compiler/neurons.py), of a user's while a program runs. It holds all that the scans do not know:
//
//   enum { ..., kStates }        states; the first is the membrane
//   enum { ..., kParams }        in the order of the operator's arguments: numbers, or tensors with gradients
//   enum { ..., kSettings }      numbers and flags that are the same for all neurons and have no gradient
//   enum { ..., kCoefficients }  what a step needs of the parameters, computed once; the scans set kLeast, if any
//   kEach, kEachCoefficients     number of parameters, the last ones, that may be tensors where Uniform, and number of
//                                coefficients that depend on them, the last ones, too
//   kTape<Uniform>               how many numbers of a step `step_backward` reads
//   kMoves                       the threshold is no coefficient
//   kTakesSlope                  `step_backward` takes the surrogate's slope at `margin`; else it computes the slope
//   kReads                       there is a kernel for a readout, which never fires: Reset::none
//   kFirstInput, kFirstOutput    further inputs, then further outputs are the last rows of the states (MoreRows)
//   kGeneric                     one kernel serves numbers and tensors and all surrogates: slower, and quick to build
//   kPrefetch                    CUDA kernels load inputs a group of steps ahead
//   kArguments                   of its operators (NeuronArgument), of a neuron of the package
//   coefficients                 coefficients of one neuron from its parameters
//   rest, rest_backward          the states of a neuron without input
//   step                         states before -> after, in place; saves `tape`; returns its first output, the spikes
//   margin                       how far the membrane was above the threshold
//   step_backward                in `grad`, dL/d(states after) -> dL/d(states before); adds to `grad_params`;
//                                returns dL/dx. `attached`: 0 where no gradient goes through the spike into the reset
//
// The last three functions are for one kind of reset, and for parameters that are numbers except the last kEach
// (Uniform), or any.
#pragma once
#include <cstdint>
#include <type_traits>

#include "bit_cast.h"

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

// Whether a generated neuron has more inputs or outputs than one. They have places among the states, the inputs from
// kFirstInput and the outputs from kFirstOutput on: an input is read into its place before a step, an output is written
// from there after it.
template <class Neuron>
constexpr bool kHasMore = static_cast<int>(Neuron::kFirstInput) < static_cast<int>(Neuron::kStates);

template <class Neuron, bool = kHasMore<Neuron>>
struct MoreRows {};
template <class Neuron>
struct MoreRows<Neuron, true> {  // by places
  Rows more_inputs[Neuron::kStates];
  void* more_outputs[Neuron::kStates];      // [T, N] in C
  Rows more_grad_outputs[Neuron::kStates];  // in C; data is null where there is none
  void* more_grad_inputs[Neuron::kStates];  // [T, N] in the dtype of x
};

// The compute type C is double for f64 and float for every other dtype. All state is in C.
template <class Neuron>
struct NeuronScan : MoreRows<Neuron> {
  int64_t T, N;
  // neurons of the whole call, of which these are N (ops/pooled.h): rows of checkpoints and gradients are so long
  int64_t N_all;
  Rows x;                                 // [T, N]
  const void* state_in[Neuron::kStates];  // [N], null: at rest
  const void*
      checkpoints;  // [(T - 1) / checkpoint_every, states, N]: the state before step k * checkpoint_every, k >= 1
  int64_t checkpoint_every;  // 0: none are kept
  Param param[Neuron::kParams];
  double settings[Neuron::kSettings];
  Reset reset;

  // Whether every parameter is a number, but for the last kEach: all neurons share the coefficients of these, which
  // have no gradient.
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
  void* grad_x;    // [T, N_all] in x's dtype; of an x that repeats its mean over the steps, [N_all]
  bool x_repeats;  // false on a GPU
  void* grad_state_in[Neuron::kStates];  // [N] or null
  void* grad_param[Neuron::kParams];     // [N] or null: per neuron, summed over time
};

constexpr int64_t kNeuronBlock = 256;  // neurons that a CPU takes through all steps at a time
// Rows of the tape of a step, at most.
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
// Whether a coefficient is.
template <class Neuron, bool Uniform>
SNNFAST_HD constexpr bool shared_coefficient(int k) {
  return Uniform && k < Neuron::kCoefficients - Neuron::kEachCoefficients;
}

// Whether kLeast is the least membrane that fires, so that to compare with it is all that a step does; else it is the
// least margin above the threshold. On a GPU the subtraction costs less than the register for one number more.
#if defined(__CUDACC__) || defined(SNNFAST_CUDA_EMULATION)
template <class Neuron>
constexpr bool kByMembrane = false;
#else
template <class Neuron>
constexpr bool kByMembrane = !Neuron::kMoves;
#endif

// The margin at which a neuron fires: 0, or strictly above, the least number that is kept where denormal ones are
// flushed.
template <class C>
SNNFAST_HD C least_margin(bool strict) {
  return strict ? (sizeof(C) == 8 ? C(2.2250738585072014e-308) : C(1.17549435e-38)) : C(0);
}

// The next number above x, which is not 0.
SNNFAST_HD float next_above(float x) { return bit_cast<float>(bit_cast<uint32_t>(x) + (x > 0 ? 1 : -1)); }
SNNFAST_HD double next_above(double x) { return bit_cast<double>(bit_cast<uint64_t>(x) + (x > 0 ? 1 : -1)); }

// The least membrane of which `membrane - threshold >= margin`. Above an infinite threshold comes NaN, which no
// membrane reaches; above one of minus infinity all but itself.
template <class C>
SNNFAST_HD C least_membrane(C threshold, C margin) {
  const C least = threshold + margin;
  return least - threshold >= margin || least != least ? least : next_above(least);
}

// The coefficients that go with a neuron's parameters.
template <class Neuron, class C>
SNNFAST_HD void neuron_coefficients(const NeuronScan<Neuron>& a, const C* params, C* c) {
  Neuron::coefficients(params, a, c);
  if constexpr (Neuron::kTakesSlope) {
    c[Neuron::kLeast] = least_margin<C>(a.settings[Neuron::kOfStrict] != 0);
    if constexpr (kByMembrane<Neuron>) c[Neuron::kLeast] = least_membrane(Neuron::threshold(c), c[Neuron::kLeast]);
  }
}

// The coefficients of neuron n.
template <class Neuron, class C>
SNNFAST_HD void neuron_coefficients(const NeuronScan<Neuron>& a, int64_t n, C* c) {
  C params[Neuron::kParams];
  SNNFAST_UNROLL
  for (int k = 0; k < Neuron::kParams; k++) params[k] = param_of_neuron<C>(a.param[k], n);
  neuron_coefficients(a, params, c);
}

}  // namespace
}  // namespace snnfast
