// Calls of neurons whatever their maths: the operators (csrc/ops) fill in the scans of AnyNeuron, which has room for
// every neuron, and a kernel takes the fields of its neuron from them (call_of). So an operator is compiled once for
// all neurons, those that are compiled while the program runs (snnfast/compiler) included.
#pragma once
#include "recurrent.h"

namespace snnfast {

// States of a step come first, then its inputs but the first, then its outputs but the first (MoreRows).
struct AnyNeuron {
  enum { kStates = 16 };
  enum { kParams = 48 };
  enum { kSettings = 8 };
  static constexpr int kEach = 0, kFirstInput = 0;
};

// An argument of the operators of one of the package's neurons. snnfast/compiler/neurons.py writes their lists from the
// fields of its call in snnfast/reference; tests/ops/test_calls.py compares the two.
struct NeuronArgument {
  // From flag to number: settings of the neuron; behind them: flags that all neurons have.
  enum Kind {
    input,
    state,
    parameter,
    surrogate,
    flag,
    integer,
    number,
    hard_reset,
    fires,
    detach_reset,
    return_state,
    return_v_seq
  };
  const char* name;
  Kind kind;
  int setting = -1;  // its place among the settings
};

// Numbers of a neuron that its operators need.
struct NeuronSizes {
  int32_t states, first_input, first_output, params, tape_rows, piece_rows;
};

// The contract between the shared library of a user's neuron and its operators (csrc/ops/own_neuron.cpp). The library
// exports one symbol, snnfast_own_kernel, for one type, one reset, one surrogate, and parameters that are known to be
// numbers or tensors.
struct OwnKernel {
  int64_t forward_bytes,
      backward_bytes;  // sizes of RecurrentForward and RecurrentBackward, which the operator compares with its own
  NeuronSizes sizes;
  int32_t checkpoint_every;
  // Of x; on a CPU f32 stands for those of 16 bits, too.
  Dtype dtype;
  // On a CPU: the kernels; or, of neurons whose spikes come back to them, the two RecurrentNeuron of their type
  // (cpu/recurrent_neuron.h).
  void (*forward)(const NeuronForward<AnyNeuron>&, int64_t begin, int64_t end);
  void (*backward)(const NeuronBackward<AnyNeuron>&, int64_t begin, int64_t end, void* scratch);
  const void *recurrent_forward, *recurrent_backward;
  // On CUDA: launches of the one or of the other, which return an error of CUDA.
  int (*launch_forward)(const NeuronForward<AnyNeuron>&, void* stream);
  int (*launch_backward)(const NeuronBackward<AnyNeuron>&, void* stream);
  int (*launch_recurrent_forward)(const RecurrentForward<AnyNeuron>&, void* stream);
  int (*launch_recurrent_backward)(const RecurrentBackward<AnyNeuron>&, void* stream);

  bool launches() const { return launch_forward || launch_recurrent_forward; }
};

namespace {

template <class Neuron>
constexpr NeuronSizes neuron_sizes() {
  return {Neuron::kStates,
          Neuron::kFirstInput,
          Neuron::kFirstOutput,
          Neuron::kParams,
          static_cast<int32_t>(kNeuronTapeRows<Neuron>),
          static_cast<int32_t>(kRecurrentPieceRows<Neuron>)};
}

template <class Neuron>
constexpr OwnKernel own_kernel(Dtype dtype, int32_t checkpoint_every) {
  OwnKernel kernel{};
  kernel.forward_bytes = sizeof(RecurrentForward<AnyNeuron>);
  kernel.backward_bytes = sizeof(RecurrentBackward<AnyNeuron>);
  kernel.sizes = neuron_sizes<Neuron>();
  kernel.checkpoint_every = checkpoint_every;
  kernel.dtype = dtype;
  return kernel;
}

template <class Neuron>
void copy_call(const NeuronScan<AnyNeuron>& from, NeuronScan<Neuron>& to) {
  to.T = from.T, to.N = from.N, to.N_all = from.N_all, to.x = from.x;
  to.checkpoints = from.checkpoints, to.checkpoint_every = from.checkpoint_every, to.reset = from.reset;
  for (int k = 0; k < Neuron::kStates; k++) to.state_in[k] = from.state_in[k];
  for (int k = 0; k < Neuron::kParams; k++) to.param[k] = from.param[k];
  for (int k = 0; k < Neuron::kSettings; k++) to.settings[k] = from.settings[k];
  if constexpr (kHasMore<Neuron>)
    for (int k = 0; k < Neuron::kStates; k++) {
      to.more_inputs[k] = from.more_inputs[k], to.more_outputs[k] = from.more_outputs[k];
      to.more_grad_inputs[k] = from.more_grad_inputs[k], to.more_grad_outputs[k] = from.more_grad_outputs[k];
    }
}
template <class Neuron>
void copy_call(const NeuronForward<AnyNeuron>& from, NeuronForward<Neuron>& to) {
  copy_call<Neuron>(static_cast<const NeuronScan<AnyNeuron>&>(from), to);
  for (int k = 0; k < Neuron::kStates; k++) to.state_out[k] = from.state_out[k];
  to.spikes = from.spikes, to.v_seq = from.v_seq, to.checkpoints_out = from.checkpoints_out;
}
template <class Neuron>
void copy_call(const NeuronBackward<AnyNeuron>& from, NeuronBackward<Neuron>& to) {
  copy_call<Neuron>(static_cast<const NeuronScan<AnyNeuron>&>(from), to);
  for (int k = 0; k < Neuron::kStates; k++)
    to.grad_state_out[k] = from.grad_state_out[k], to.grad_state_in[k] = from.grad_state_in[k];
  for (int k = 0; k < Neuron::kParams; k++) to.grad_param[k] = from.grad_param[k];
  to.grad_spikes = from.grad_spikes, to.grad_v_seq = from.grad_v_seq, to.grad_x = from.grad_x;
  to.x_repeats = from.x_repeats, to.surrogate = from.surrogate, to.alpha = from.alpha;
  to.detach_reset = from.detach_reset;
}
template <class Neuron>
void copy_call(const RecurrentForward<AnyNeuron>& from, RecurrentForward<Neuron>& to) {
  copy_call<Neuron>(static_cast<const NeuronForward<AnyNeuron>&>(from), to);
  to.recurrence = from.recurrence, to.columns = from.columns;
}
template <class Neuron>
void copy_call(const RecurrentBackward<AnyNeuron>& from, RecurrentBackward<Neuron>& to) {
  copy_call<Neuron>(static_cast<const NeuronBackward<AnyNeuron>&>(from), to);
  to.recurrence = from.recurrence, to.spikes = from.spikes, to.grad_weight = from.grad_weight;
  to.grad_past = from.grad_past, to.grad_delay = from.grad_delay, to.grad_current = from.grad_current;
  to.returned = from.returned, to.columns = from.columns;
}

// A call of any neuron as one of this neuron, which has fewer places.
template <class Neuron, template <class> class Scan>
Scan<Neuron> call_of(const Scan<AnyNeuron>& from) {
  Scan<Neuron> to{};
  copy_call<Neuron>(from, to);
  return to;
}

}  // namespace
}  // namespace snnfast

#define SNNFAST_OWN_KERNEL(...) \
  extern "C" __attribute__((visibility("default"))) const snnfast::OwnKernel snnfast_own_kernel = __VA_ARGS__;
