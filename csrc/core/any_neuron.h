// Calls of any neuron. The operators (csrc/ops) fill in the scans of AnyNeuron, which has room for every neuron; a
// kernel copies the fields of its neuron from them (call_of). So the operators are compiled once for all neurons,
// including those compiled at run time (snnfast/compiler).
#pragma once
#include "recurrent.h"

namespace snnfast {

// Rows: the states of a step, then its inputs except the first, then its outputs except the first (MoreRows).
struct AnyNeuron {
  enum { kStates = 16 };
  enum { kParams = 48 };
  enum { kSettings = 8 };
  static constexpr int kEach = 0, kFirstInput = 0;
};

// Argument of the operators of a neuron of the package. snnfast/compiler/neurons.py generates the lists from the fields
// of the neuron's call in snnfast/reference; tests/ops/test_ops_calls.py compares the two.
struct NeuronArgument {
  // From flag to number: settings of this neuron; after them: flags of all neurons.
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
  int setting = -1;  // index in NeuronScan::settings
};

// Sizes of a neuron that its operators need.
struct NeuronSizes {
  int32_t states, first_input, first_output, params, tape_rows, piece_rows;
};

// Contract between the shared library of a user's neuron and its operators (csrc/ops/own_neuron.cpp). The library
// exports one symbol, snnfast_own_kernel, for one dtype, one reset, one surrogate, and one choice of parameters that
// are numbers or tensors.
struct OwnKernel {
  int64_t forward_bytes,
      backward_bytes;  // sizes of RecurrentForward and RecurrentBackward; the operator compares them with its own
  NeuronSizes sizes;
  int32_t checkpoint_every;
  // Dtype of x; on a CPU, f32 also stands for the 16-bit dtypes.
  Dtype dtype;
  // CPU: the kernels, or for recurrent neurons the two RecurrentNeuron of their dtype (cpu/recurrent_neuron.h).
  void (*forward)(const NeuronForward<AnyNeuron>&, int64_t begin, int64_t end);
  void (*backward)(const NeuronBackward<AnyNeuron>&, int64_t begin, int64_t end, void* scratch);
  const void *recurrent_forward, *recurrent_backward;
  // CUDA: launchers of the feed-forward or of the recurrent kernels; they return a CUDA error code.
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
  to.T = from.T, to.N = from.N, to.x = from.x;
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

// Converts a call of AnyNeuron to a call of Neuron, which has fewer rows.
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
