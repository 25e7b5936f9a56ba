// The CPU kernels of one neuron that is compiled while the program runs: for one type, one reset, one surrogate, and
// parameters that are known to be numbers or tensors. The generated source ends with SNNFAST_OWN_NEURON(its struct, its
// type).
#pragma once
#include "core/own_neuron.h"
#include "core/recurrent.h"
#include "cpu/neuron_loop.h"
#include "cpu/rows.cpp"  // what the extension compiles once, and keeps to itself

namespace snnfast::cpu {
namespace {

template <class Neuron>
void copy_scan(const NeuronScan<OwnNeuron>& from, NeuronScan<Neuron>& to) {
  to.T = from.T, to.N = from.N, to.N_all = from.N_all, to.x = from.x, to.checkpoints = from.checkpoints,
  to.checkpoint_every = from.checkpoint_every;
  to.reset = from.reset, to.more = from.more;
  for (int k = 0; k < Neuron::kStates; k++) to.state_in[k] = from.state_in[k];
  for (int k = 0; k < Neuron::kParams; k++) to.param[k] = from.param[k];
  for (int k = 0; k < Neuron::kSettings; k++) to.settings[k] = from.settings[k];
}

template <class Neuron, class C>
void own_forward(const NeuronForward<OwnNeuron>& from, int64_t begin, int64_t end) {
  NeuronForward<Neuron> a;
  copy_scan<Neuron>(from, a);
  for (int k = 0; k < Neuron::kStates; k++) a.state_out[k] = from.state_out[k];
  a.spikes = from.spikes, a.v_seq = from.v_seq, a.checkpoints_out = from.checkpoints_out;
  forward_uniform<Neuron, C, Reset::hard, true>(a, begin, end);
}

template <class Neuron, class C>
void own_backward(const NeuronBackward<OwnNeuron>& from, int64_t begin, int64_t end, void* scratch) {
  NeuronBackward<Neuron> a;
  copy_scan<Neuron>(from, a);
  for (int k = 0; k < Neuron::kStates; k++)
    a.grad_state_out[k] = from.grad_state_out[k], a.grad_state_in[k] = from.grad_state_in[k];
  for (int k = 0; k < Neuron::kParams; k++) a.grad_param[k] = from.grad_param[k];
  a.grad_spikes = from.grad_spikes, a.grad_v_seq = from.grad_v_seq, a.grad_x = from.grad_x;
  a.surrogate = 0, a.alpha = 0, a.detach_reset = false, a.x_repeats = from.x_repeats;
  if constexpr (kInStrips<Neuron, C>)
    backward_strips<Neuron, C, Reset::hard>(a, begin, end, scratch);
  else
    backward_parameters<Neuron, C, Reset::hard, true>(a, begin, end, scratch);
  stream_done();
}

}  // namespace
}  // namespace snnfast::cpu

#define SNNFAST_OWN_KERNEL(NEURON, TYPE, ...)                                                                         \
  extern "C" __attribute__((visibility("default")))                                                                   \
  const snnfast::OwnKernel snnfast_own_kernel = {sizeof(snnfast::NeuronForward<snnfast::OwnNeuron>),                  \
                                                 sizeof(snnfast::NeuronBackward<snnfast::OwnNeuron>),                 \
                                                 snnfast::NEURON::kStates,                                            \
                                                 snnfast::NEURON::kParams,                                            \
                                                 static_cast<int32_t>(snnfast::kNeuronTapeRows<snnfast::NEURON>),     \
                                                 static_cast<int32_t>(snnfast::kRecurrentPieceRows<snnfast::NEURON>), \
                                                 sizeof(TYPE) == 8,                                                   \
                                                 __VA_ARGS__};
#define SNNFAST_OWN_NEURON(NEURON, TYPE)                                              \
  SNNFAST_OWN_KERNEL(NEURON, TYPE, &snnfast::cpu::own_forward<snnfast::NEURON, TYPE>, \
                     &snnfast::cpu::own_backward<snnfast::NEURON, TYPE>, nullptr, nullptr)
