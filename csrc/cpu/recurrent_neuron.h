// One step of a recurrent neuron (core/recurrent.h) on the CPU, behind function pointers: the loop over time
// (recurrent_loop.h) is independent of the neuron and compiled once. The equations are those of neuron_loop.h, always
// with separate coefficients for every neuron.
#pragma once
#include "core/recurrent.h"
#include "cpu/neuron_loop.h"

namespace snnfast::cpu::SNNFAST_ISA {

// Functions for m neurons of a block; tape, states and coefficients have one row per value.
template <class C>
struct RecurrentNeuron {
  using Block = C (*)[kBlock];
  using ConstBlock = const C (*)[kBlock];

  int states, params, first_input;  // first_input: row of the second input among the states
  int64_t piece_rows, tape_rows;    // of RecurrentMemory
  const void* scan;                 // passed to the functions below as `scan`
  void (*coefficients)(const void* scan, int64_t n0, int64_t m, Block out);
  void (*initial_state)(const void* scan, ConstBlock coefficients, int64_t n0, int64_t m, Block states);
  void (*step)(const C* x, Block states, C* spikes, Block tape, ConstBlock coefficients, int64_t m);
  // Only for the backward pass; if margins is null, step_backward has its surrogate compiled in:
  void (*margins)(ConstBlock tape, ConstBlock coefficients, C* out, int64_t m);
  void (*step_backward)(const void* scan, ConstBlock tape, const C* grad_spikes, const C* grad_v, const C* slope,
                        Block grad, C* grad_x, Block grad_params, ConstBlock coefficients, int64_t m);
  void (*rest_backward)(int state, const C* grad, Block grad_params, int64_t m);
};

// Fields of RecurrentForward and RecurrentBackward that the loop reads; arrays by pointers to their first elements.
struct RecurrentScan {
  int64_t T, N, checkpoint_every;
  Rows x;
  const Rows* more_inputs;  // indexed as the states; null: the neuron has one input
  Recurrence recurrence;
  bool uniform;  // each parameter has one value for all neurons
};
struct RecurrentForwardScan : RecurrentScan {
  void *spikes, *v_seq, *checkpoints_out;
  void* const* state_out;
};
struct RecurrentBackwardScan : RecurrentScan {
  const void* checkpoints;
  const void* const* state_in;
  Rows spikes, grad_spikes, grad_v_seq;
  const void* const* grad_state_out;
  int32_t surrogate;
  double alpha;
  void *grad_x, *grad_weight, *grad_past, *grad_delay;
  void* const* more_grad_inputs;  // as more_inputs
  void *const *grad_state_in, *const *grad_param;
};

// Ranges of groups of samples (forward), and of parts of groups (backward).
void recurrent_groups(const RecurrentForwardScan&, const RecurrentNeuron<float>&, int64_t begin, int64_t end,
                      char* scratch);
void recurrent_groups(const RecurrentForwardScan&, const RecurrentNeuron<double>&, int64_t begin, int64_t end,
                      char* scratch);
void recurrent_parts(const RecurrentBackwardScan&, const RecurrentNeuron<float>&, int64_t begin, int64_t end,
                     char* scratch);
void recurrent_parts(const RecurrentBackwardScan&, const RecurrentNeuron<double>&, int64_t begin, int64_t end,
                     char* scratch);

}  // namespace snnfast::cpu::SNNFAST_ISA

namespace snnfast::cpu {
namespace {

template <class Neuron, class C>
const Coefficients<Neuron, C, false>& coefficients_in(const C (*rows)[kBlock]) {
  static_assert(sizeof(Coefficients<Neuron, C, false>) == sizeof(C) * Neuron::kCoefficients * kBlock);
  return *reinterpret_cast<const Coefficients<Neuron, C, false>*>(rows);
}

template <class Neuron, class C>
void recurrent_coefficients(const void* scan, int64_t n0, int64_t m, C (*out)[kBlock]) {
  *reinterpret_cast<Coefficients<Neuron, C, false>*>(out) =
      Coefficients<Neuron, C, false>(*static_cast<const NeuronScan<Neuron>*>(scan), n0, m);
}

template <class Neuron, class C>
void recurrent_initial_state(const void* scan, const C (*coefficients)[kBlock], int64_t n0, int64_t m,
                             C (*states)[kBlock]) {
  load_initial_state(*static_cast<const NeuronScan<Neuron>*>(scan), coefficients_in<Neuron>(coefficients), n0, m,
                     states);
}

// Unless Taped, nothing is written to the tape.
template <class Neuron, class C, Reset R, bool Taped>
void recurrent_step(const C* x, C (*states)[kBlock], C* spikes, C (*tape)[kBlock], const C (*coefficient_rows)[kBlock],
                    int64_t m) {
  const auto& coefficients = coefficients_in<Neuron>(coefficient_rows);
  SNNFAST_SIMD
  for (int64_t i = 0; i < m; i++) {
    C c[Neuron::kCoefficients], state[Neuron::kStates], written[Neuron::template kTape<false>] = {};
    coefficients.load(i, c);
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) state[k] = states[k][i];
    spikes[i] = Neuron::template step<R, false>(x[i], c, state, written);
    if constexpr (Taped) {
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::template kTape<false>; k++) tape[k][i] = written[k];
    }
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) states[k][i] = state[k];
  }
}

// grad: dL/d(states after the step) on entry, dL/d(states before it) on return.
template <class Neuron, class C, Reset R>
void recurrent_step_backward(const void* scan, const C (*tape)[kBlock], const C* grad_spikes, const C* grad_v,
                             const C* slope, C (*grad)[kBlock], C* grad_x, C (*grad_params)[kBlock],
                             const C (*coefficient_rows)[kBlock], int64_t m) {
  const auto& coefficients = coefficients_in<Neuron>(coefficient_rows);
  C attached = C(1);
  if constexpr (Neuron::kTakesSlope) {
    const auto& a = static_cast<const NeuronBackward<Neuron>&>(*static_cast<const NeuronScan<Neuron>*>(scan));
    attached = a.detach_reset ? C(0) : C(1);
  }
  SNNFAST_SIMD
  for (int64_t i = 0; i < m; i++) {
    C c[Neuron::kCoefficients], read[Neuron::template kTape<false>], g[Neuron::kStates], gp[Neuron::kParams];
    coefficients.load(i, c);
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::template kTape<false>; k++) read[k] = tape[k][i];
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) g[k] = grad[k][i];
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kParams; k++) gp[k] = grad_params[k][i];
    g[0] += grad_v[i];
    grad_x[i] = Neuron::template step_backward<R, false>(read, c, grad_spikes[i], slope[i], attached, g, gp);
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) grad[k][i] = g[k];
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kParams; k++) grad_params[k][i] = gp[k];
  }
}

template <class Neuron, class C, Reset R>
void recurrent_margins(const C (*tape)[kBlock], const C (*coefficients)[kBlock], C* out, int64_t m) {
  margins<Neuron, C, R, false>(tape, coefficients_in<Neuron>(coefficients), out, m);
}

template <class Neuron, class C>
void recurrent_rest_backward(int state, const C* grad, C (*grad_params)[kBlock], int64_t m) {
  for (int64_t i = 0; i < m; i++) {
    C gp[Neuron::kParams];
    for (int q = 0; q < Neuron::kParams; q++) gp[q] = grad_params[q][i];
    Neuron::rest_backward(state, grad[i], gp);
    for (int q = 0; q < Neuron::kParams; q++) grad_params[q][i] = gp[q];
  }
}

// Dispatch from run-time choices to template arguments.

template <class Neuron, class C, bool Taped>
SNNFAST_ISA::RecurrentNeuron<C> recurrent_neuron(const NeuronScan<Neuron>& scan) {
  SNNFAST_ISA::RecurrentNeuron<C> neuron{};
  neuron.states = Neuron::kStates;
  neuron.params = Neuron::kParams;
  neuron.first_input = Neuron::kFirstInput;
  neuron.piece_rows = kRecurrentPieceRows<Neuron>;
  neuron.tape_rows = kNeuronTapeRows<Neuron>;
  neuron.scan = &scan;
  neuron.coefficients = &recurrent_coefficients<Neuron, C>;
  neuron.initial_state = &recurrent_initial_state<Neuron, C>;
  neuron.step = scan.reset == Reset::hard ? &recurrent_step<Neuron, C, Reset::hard, Taped>
                                          : &recurrent_step<Neuron, C, Reset::soft, Taped>;
  return neuron;
}

template <class Neuron, class C>
void recurrent_forward_as(const NeuronScan<Neuron>& a, const SNNFAST_ISA::RecurrentForwardScan& scan, int64_t begin,
                          int64_t end, void* scratch) {
  SNNFAST_ISA::recurrent_groups(scan, recurrent_neuron<Neuron, C, false>(a), begin, end, static_cast<char*>(scratch));
}

template <class Neuron>
SNNFAST_ISA::RecurrentScan recurrent_scan(const NeuronScan<Neuron>& a, const Recurrence& recurrence) {
  const Rows* more = nullptr;
  if constexpr (kHasMore<Neuron>) more = a.more_inputs;
  bool uniform = true;
  for (int k = 0; k < Neuron::kParams; k++) uniform = uniform && a.param[k].count <= 1;
  return {a.T, a.N, a.checkpoint_every, a.x, more, recurrence, uniform};
}

template <class Neuron>
SNNFAST_ISA::RecurrentForwardScan forward_scan(const RecurrentForward<Neuron>& a) {
  return {recurrent_scan<Neuron>(a, a.recurrence), a.spikes, a.v_seq, a.checkpoints_out, a.state_out};
}

template <class Neuron>
void recurrent_forward(const RecurrentForward<Neuron>& a, int64_t begin, int64_t end, void* scratch) {
  a.x.dtype == Dtype::f64 ? recurrent_forward_as<Neuron, double>(a, forward_scan(a), begin, end, scratch)
                          : recurrent_forward_as<Neuron, float>(a, forward_scan(a), begin, end, scratch);
}

template <class Neuron, class C>
void recurrent_backward_as(const NeuronBackward<Neuron>& a, const SNNFAST_ISA::RecurrentBackwardScan& scan,
                           int64_t begin, int64_t end, void* scratch) {
  auto neuron = recurrent_neuron<Neuron, C, true>(a);
  neuron.margins =
      a.reset == Reset::hard ? &recurrent_margins<Neuron, C, Reset::hard> : &recurrent_margins<Neuron, C, Reset::soft>;
  neuron.step_backward = a.reset == Reset::hard ? &recurrent_step_backward<Neuron, C, Reset::hard>
                                                : &recurrent_step_backward<Neuron, C, Reset::soft>;
  neuron.rest_backward = &recurrent_rest_backward<Neuron, C>;
  SNNFAST_ISA::recurrent_parts(scan, neuron, begin, end, static_cast<char*>(scratch));
}

template <class Neuron>
SNNFAST_ISA::RecurrentBackwardScan backward_scan(const RecurrentBackward<Neuron>& a) {
  void* const* more = nullptr;
  if constexpr (kHasMore<Neuron>) more = a.more_grad_inputs;
  return {recurrent_scan<Neuron>(a, a.recurrence),
          a.checkpoints,
          a.state_in,
          a.spikes,
          a.grad_spikes,
          a.grad_v_seq,
          a.grad_state_out,
          a.surrogate,
          a.alpha,
          a.grad_x,
          a.grad_weight,
          a.grad_past,
          a.grad_delay,
          more,
          a.grad_state_in,
          a.grad_param};
}

template <class Neuron>
void recurrent_backward(const RecurrentBackward<Neuron>& a, int64_t begin, int64_t end, void* scratch) {
  a.x.dtype == Dtype::f64 ? recurrent_backward_as<Neuron, double>(a, backward_scan(a), begin, end, scratch)
                          : recurrent_backward_as<Neuron, float>(a, backward_scan(a), begin, end, scratch);
}

}  // namespace
}  // namespace snnfast::cpu
