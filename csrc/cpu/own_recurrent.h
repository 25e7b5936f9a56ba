// Like own_neuron.h, for recurrent neurons: the generated source ends with own_recurrent.
#pragma once
#include "cpu/own_neuron.h"
#include "cpu/recurrent_neuron.h"

namespace snnfast::cpu {
namespace {

template <class Neuron, class C>
void own_coefficients(const void* scan, int64_t n0, int64_t m, C (*out)[kBlock]) {
  const NeuronScan<Neuron> a = call_of<Neuron>(*static_cast<const NeuronScan<AnyNeuron>*>(scan));
  recurrent_coefficients<Neuron, C>(static_cast<const void*>(&a), n0, m, out);
}

template <class Neuron, class C>
void own_initial_state(const void* scan, const C (*coefficients)[kBlock], int64_t n0, int64_t m, C (*states)[kBlock]) {
  const NeuronScan<Neuron> a = call_of<Neuron>(*static_cast<const NeuronScan<AnyNeuron>*>(scan));
  recurrent_initial_state<Neuron, C>(static_cast<const void*>(&a), coefficients, n0, m, states);
}

template <class Neuron, class C, bool Taped>
constexpr SNNFAST_ISA::RecurrentNeuron<C> kOwnRecurrent = {Neuron::kStates,
                                                           Neuron::kParams,
                                                           Neuron::kFirstInput,
                                                           kRecurrentPieceRows<Neuron>,
                                                           kNeuronTapeRows<Neuron>,
                                                           nullptr,
                                                           &own_coefficients<Neuron, C>,
                                                           &own_initial_state<Neuron, C>,
                                                           &recurrent_step<Neuron, C, Reset::hard, Taped>,
                                                           nullptr,
                                                           &recurrent_step_backward<Neuron, C, Reset::hard>,
                                                           &recurrent_rest_backward<Neuron, C>};

template <class Neuron, class C>
constexpr OwnKernel own_recurrent() {
  OwnKernel kernel = own_kernel<Neuron>(kDtype<C>, kCheckpointEvery);
  kernel.recurrent_forward = &kOwnRecurrent<Neuron, C, false>;
  kernel.recurrent_backward = &kOwnRecurrent<Neuron, C, true>;
  return kernel;
}

}  // namespace
}  // namespace snnfast::cpu
