// The same as own_neuron.h of neurons whose spikes come back to them: the generated source ends with
// SNNFAST_OWN_RECURRENT.
#pragma once
#include "cpu/own_neuron.h"
#include "cpu/recurrent_neuron.h"

namespace snnfast::cpu {
namespace {

template <class Neuron, class C>
void own_coefficients(const void* scan, int64_t n0, int64_t m, C (*out)[kBlock]) {
  NeuronScan<Neuron> a;
  copy_scan<Neuron>(*static_cast<const NeuronScan<OwnNeuron>*>(scan), a);
  recurrent_coefficients<Neuron, C>(static_cast<const void*>(&a), n0, m, out);
}

template <class Neuron, class C>
void own_initial_state(const void* scan, const C (*coefficients)[kBlock], int64_t n0, int64_t m, C (*states)[kBlock]) {
  NeuronScan<Neuron> a;
  copy_scan<Neuron>(*static_cast<const NeuronScan<OwnNeuron>*>(scan), a);
  recurrent_initial_state<Neuron, C>(static_cast<const void*>(&a), coefficients, n0, m, states);
}

template <class Neuron, class C, bool Taped>
constexpr SNNFAST_ISA::RecurrentNeuron<C> kOwnRecurrent = {Neuron::kStates,
                                                           Neuron::kParams,
                                                           kRecurrentPieceRows<Neuron>,
                                                           kNeuronTapeRows<Neuron>,
                                                           nullptr,
                                                           &own_coefficients<Neuron, C>,
                                                           &own_initial_state<Neuron, C>,
                                                           &recurrent_step<Neuron, C, Reset::hard, Taped>,
                                                           nullptr,
                                                           &recurrent_step_backward<Neuron, C, Reset::hard>,
                                                           &recurrent_rest_backward<Neuron, C>};

}  // namespace
}  // namespace snnfast::cpu

#define SNNFAST_OWN_RECURRENT(NEURON, TYPE)                                                                      \
  SNNFAST_OWN_KERNEL(NEURON, TYPE, nullptr, nullptr, &snnfast::cpu::kOwnRecurrent<snnfast::NEURON, TYPE, false>, \
                     &snnfast::cpu::kOwnRecurrent<snnfast::NEURON, TYPE, true>)
