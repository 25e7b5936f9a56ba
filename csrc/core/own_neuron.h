// A neuron that is compiled while the program runs, from a step function of a user's (snnfast/compiler): the contract
// between its shared library and the operators of csrc/ops/own_neuron.cpp. The library exports one symbol,
// snnfast_own_kernel, for one type, one reset, one surrogate, and parameters that are known to be numbers or tensors.
#pragma once
#include "recurrent.h"

namespace snnfast {

// Room for every such neuron. States of a step come first, then its inputs but the first, then its outputs but the
// first (MoreRows).
struct OwnNeuron {
  enum { kStates = 16 };
  enum { kParams = 48 };
  enum { kSettings = 1 };
  static constexpr int kEach = 0, kFirstInput = 0;
};

struct OwnKernel {
  int64_t forward_bytes,
      backward_bytes;  // sizes of RecurrentForward and RecurrentBackward, which the operator compares with its own
  int32_t states, first_input, first_output, params, tape_rows, piece_rows, checkpoint_every;
  // Of x; on a CPU f32 stands for those of 16 bits, too.
  Dtype dtype;
  // On a CPU: the kernels; or, of neurons whose spikes come back to them, the two RecurrentNeuron of their type
  // (cpu/recurrent_neuron.h).
  void (*forward)(const NeuronForward<OwnNeuron>&, int64_t begin, int64_t end);
  void (*backward)(const NeuronBackward<OwnNeuron>&, int64_t begin, int64_t end, void* scratch);
  const void *recurrent_forward, *recurrent_backward;
  // On CUDA: launches of the one or of the other, which return an error of CUDA.
  int (*launch_forward)(const NeuronForward<OwnNeuron>&, void* stream);
  int (*launch_backward)(const NeuronBackward<OwnNeuron>&, void* stream);
  int (*launch_recurrent_forward)(const RecurrentForward<OwnNeuron>&, void* stream);
  int (*launch_recurrent_backward)(const RecurrentBackward<OwnNeuron>&, void* stream);

  bool launches() const { return launch_forward || launch_recurrent_forward; }
};

namespace {

template <class Neuron>
constexpr OwnKernel own_kernel(Dtype dtype, int32_t checkpoint_every) {
  OwnKernel kernel{};
  kernel.forward_bytes = sizeof(RecurrentForward<OwnNeuron>);
  kernel.backward_bytes = sizeof(RecurrentBackward<OwnNeuron>);
  kernel.states = Neuron::kStates;
  kernel.first_input = Neuron::kFirstInput;
  kernel.first_output = Neuron::kFirstOutput;
  kernel.params = Neuron::kParams;
  kernel.tape_rows = static_cast<int32_t>(kNeuronTapeRows<Neuron>);
  kernel.piece_rows = static_cast<int32_t>(kRecurrentPieceRows<Neuron>);
  kernel.checkpoint_every = checkpoint_every;
  kernel.dtype = dtype;
  return kernel;
}

template <class Neuron>
void copy_call(const NeuronScan<OwnNeuron>& from, NeuronScan<Neuron>& to) {
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
void copy_call(const NeuronForward<OwnNeuron>& from, NeuronForward<Neuron>& to) {
  copy_call<Neuron>(static_cast<const NeuronScan<OwnNeuron>&>(from), to);
  for (int k = 0; k < Neuron::kStates; k++) to.state_out[k] = from.state_out[k];
  to.spikes = from.spikes, to.v_seq = from.v_seq, to.checkpoints_out = from.checkpoints_out;
}
template <class Neuron>
void copy_call(const NeuronBackward<OwnNeuron>& from, NeuronBackward<Neuron>& to) {
  copy_call<Neuron>(static_cast<const NeuronScan<OwnNeuron>&>(from), to);
  for (int k = 0; k < Neuron::kStates; k++)
    to.grad_state_out[k] = from.grad_state_out[k], to.grad_state_in[k] = from.grad_state_in[k];
  for (int k = 0; k < Neuron::kParams; k++) to.grad_param[k] = from.grad_param[k];
  to.grad_spikes = from.grad_spikes, to.grad_v_seq = from.grad_v_seq, to.grad_x = from.grad_x;
  to.x_repeats = from.x_repeats;
}
template <class Neuron>
void copy_call(const RecurrentForward<OwnNeuron>& from, RecurrentForward<Neuron>& to) {
  copy_call<Neuron>(static_cast<const NeuronForward<OwnNeuron>&>(from), to);
  to.recurrence = from.recurrence, to.columns = from.columns;
}
template <class Neuron>
void copy_call(const RecurrentBackward<OwnNeuron>& from, RecurrentBackward<Neuron>& to) {
  copy_call<Neuron>(static_cast<const NeuronBackward<OwnNeuron>&>(from), to);
  to.recurrence = from.recurrence, to.spikes = from.spikes, to.grad_weight = from.grad_weight;
  to.grad_past = from.grad_past, to.grad_delay = from.grad_delay, to.grad_current = from.grad_current;
  to.returned = from.returned, to.columns = from.columns;
}

// A call of any neuron as one of this neuron, which has fewer places.
template <class Neuron, template <class> class Scan>
Scan<Neuron> call_of(const Scan<OwnNeuron>& from) {
  Scan<Neuron> to{};
  copy_call<Neuron>(from, to);
  return to;
}

}  // namespace
}  // namespace snnfast

#define SNNFAST_OWN_KERNEL(...) \
  extern "C" __attribute__((visibility("default"))) const snnfast::OwnKernel snnfast_own_kernel = __VA_ARGS__;
