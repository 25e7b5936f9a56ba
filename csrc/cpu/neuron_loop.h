// The scan over time on the CPU, forward and backward, for any neuron (core/neuron.h). A block of neurons runs through
// all time steps before the next block, so that its state stays in L1.
#pragma once
#include "cpu/neuron_lines.h"
#include "cpu/neuron_strip.h"

namespace snnfast::cpu::SNNFAST_ISA {

// Replaces the m margins of a row by the surrogate's slopes. Compiled separately (slopes.cpp): otherwise each neuron
// would be compiled for each surrogate.
void slopes(int32_t surrogate, float* row, float alpha, int64_t m);
void slopes(int32_t surrogate, double* row, double alpha, int64_t m);

}  // namespace snnfast::cpu::SNNFAST_ISA

namespace snnfast::cpu {
namespace {

// One step of m neurons, in whole lines. out: the row of spikes, bypassing the caches if `past`, or the tape rows of
// this step.
template <class Neuron, class C, Reset R, bool Uniform, Record Out>
inline void step(const C* x, C (*states)[kBlock], C (*out)[kBlock],
                 const Coefficients<Neuron, C, Uniform>& coefficients, int64_t m, bool past = false) {
  C shared[Neuron::kCoefficients];
  coefficients.load(0, shared);
  for (int64_t i = 0; i < m; i += kLine<C>) {
    alignas(64) C spikes[kLine<C>];
    const auto out_line = from(out, i);
    step_line<Neuron, C, R, Uniform, Out>(x + i, from(states, i), out_line, spikes, coefficients, shared, i);
    if constexpr (Out == Record::spikes) write_line(*out_line, spikes, past);
  }
}

// Reads further inputs of a step into their rows of the states.
template <class Neuron, class C>
inline void read_more(const NeuronScan<Neuron>& a, int64_t t, int64_t n0, int64_t m, C (*state)[kBlock]) {
  if constexpr (kHasMore<Neuron>) {
    for (int k = Neuron::kFirstInput; k < Neuron::kFirstOutput; k++) {
      const C* row = read_row<C>(a.more_inputs[k], t, n0, m, state[k]);
      if (row != state[k]) copy(state[k], row, m);
    }
  }
}

template <class Neuron, class C, Reset R, bool Uniform>
void forward_block(const NeuronForward<Neuron>& a, int64_t n0, int64_t m, RowsAhead& ahead, AcrossLines<C>& across) {
  alignas(64) C state[Neuron::kStates][kBlock];
  alignas(64) C x_buffer[kBlock];
  alignas(64) C spike_buffer[kBlock];
  const int64_t lines = whole_lines<C>(m);
  const Coefficients<Neuron, C, Uniform> coefficients(a, n0, m);
  const bool streaming = streams<C>(a.T, a.N), shifted = AcrossLines<C>::wanted(a.spikes, a.x.dtype, a.N, streaming);
  const int64_t next_block = min(a.N - n0 - m, kBlock);
  load_initial_state(a, coefficients, n0, m, state);
  fill_line(x_buffer, m);
  for (int64_t t = 0; t < a.T; t++) {
    if (a.checkpoints_out && t > 0 && t % a.checkpoint_every == 0)
      for (int k = 0; k < Neuron::kStates; k++)
        copy(static_cast<C*>(a.checkpoints_out) + ((t / a.checkpoint_every - 1) * Neuron::kStates + k) * a.N + n0,
             state[k], m);
    const C* x = read_lines<C>(a.x, t, n0, m, x_buffer);
    if (t + kAhead < a.T)
      prefetch_row(a.x, t + kAhead, n0, m);
    else
      prefetch_row(a.x, t + kAhead - a.T, n0 + m, next_block);
    ahead.fetch();
    read_more(a, t, n0, m, state);
    if constexpr (R == Reset::none) {
      step<Neuron, C, R, Uniform, Record::nothing>(x, state, &spike_buffer, coefficients, lines);
    } else {
      const int64_t offset = t * a.N + n0;
      C* spikes = output_row<C>(a.spikes, a.x.dtype, offset, lines != m || shifted, spike_buffer);
      step<Neuron, C, R, Uniform, Record::spikes>(x, state, reinterpret_cast<C(*)[kBlock]>(spikes), coefficients, lines,
                                                  writes_past(spikes, streaming && spikes != spike_buffer));
      if (shifted)
        across.write(t, n0, m, static_cast<C*>(a.spikes) + offset, spike_buffer);
      else if (spikes == spike_buffer)
        flush_row(a.spikes, a.x.dtype, offset, m, streaming, spike_buffer);
    }
    if (a.v_seq) copy(static_cast<C*>(a.v_seq) + t * a.N + n0, state[0], m);
    if constexpr (kHasMore<Neuron>)
      for (int k = Neuron::kFirstOutput; k < Neuron::kStates; k++)
        copy(static_cast<C*>(a.more_outputs[k]) + t * a.N + n0, state[k], m);
  }
  for (int k = 0; k < Neuron::kStates; k++)
    if (a.state_out[k]) copy(static_cast<C*>(a.state_out[k]) + n0, state[k], m);
}

// Margins at which the surrogate's slopes are taken.
template <class Neuron, class C, Reset R, bool Uniform>
void margins(const C (*tape)[kBlock], const Coefficients<Neuron, C, Uniform>& coefficients, C* out, int64_t m) {
  SNNFAST_SIMD
  for (int64_t i = 0; i < m; i++) {
    C c[Neuron::kCoefficients], read[Neuron::template kTape<Uniform>];
    coefficients.load(i, c);
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::template kTape<Uniform>; k++) read[k] = tape[k][i];
    out[i] = Neuron::template margin<R, Uniform>(read, c);
  }
}

// Gradient of one step of m neurons, in whole lines. Not inline: inlined, it would have too few registers for
// addresses.
template <class Neuron, class C, Reset R, Surrogate S, bool Uniform>
__attribute__((noinline)) void step_backward(const C (*tape)[kBlock], const C* grad_spikes, const C* grad_v,
                                             C (*grad)[kBlock], C* grad_x, C (*grad_params)[kBlock],
                                             const Coefficients<Neuron, C, Uniform>& coefficients,
                                             const NeuronBackward<Neuron>& a, int64_t m, bool past) {
  const LineConstants<Neuron, C, Uniform> constants(a, coefficients);
  constexpr bool runtime_surrogate = S == Surrogate::count;
  alignas(64) C slope_row[runtime_surrogate ? kBlock : 1];
  if constexpr (runtime_surrogate) {
    margins<Neuron, C, R, Uniform>(tape, coefficients, slope_row, m);
    SNNFAST_ISA::slopes(a.surrogate, slope_row, constants.alpha, m);
  }
  for (int64_t i = 0; i < m; i += kLine<C>) {
    alignas(64) C line[kLine<C>];
    line_backward<Neuron, C, R, S, Uniform>(from(tape, i), grad_spikes + i, grad_v + i,
                                            slope_row + (runtime_surrogate ? i : 0), from(grad, i), line,
                                            from(grad_params, i), coefficients, constants, i);
    write_line(grad_x + i, line, past);
  }
}

// Gradients that a block carries backward through its steps.
template <class Neuron, class C, bool Uniform>
struct BlockGradients {
  alignas(64) C states[Neuron::kStates][kBlock];
  alignas(64) C params[Neuron::kParams][kAllShared<Neuron, Uniform> ? 1 : kBlock];
  alignas(64) C x[kBlock];  // sum over the steps, if x_repeats
};

template <class Neuron, class C, bool Uniform>
using TapeRows = C (*)[Neuron::template kTape<Uniform>][kBlock];  // one tape per step of a segment

// Backward pass through the steps [t0, t0 + steps) of a block, whose tape is filled. Only this part of a block is
// compiled for each surrogate.
template <class Neuron, class C, Reset R, Surrogate S, bool Uniform>
__attribute__((noinline)) void segment_backward(const NeuronBackward<Neuron>& a,
                                                const Coefficients<Neuron, C, Uniform>& coefficients,
                                                TapeRows<Neuron, C, Uniform> tape, int64_t t0, int64_t steps,
                                                int64_t n0, int64_t m, BlockGradients<Neuron, C, Uniform>& grad,
                                                RowsAhead& grad_ahead, AcrossLines<C>& across) {
  alignas(64) C spike_buffer[kBlock], v_buffer[kBlock], out_buffer[kBlock];
  const bool streaming = streams<C>(a.T, a.N),
             shifted = !a.x_repeats && AcrossLines<C>::wanted(a.grad_x, a.x.dtype, a.N, streaming);
  const int64_t next_block = min(a.N - n0 - m, kBlock);
  const int64_t K = a.checkpoint_every, lines = whole_lines<C>(m);
  fill_line(spike_buffer, m);
  fill_line(v_buffer, m);
  for (int64_t j = steps - 1; j >= 0; j--) {
    const int64_t t = t0 + j, offset = t * a.N + n0;
    const C* grad_spikes = a.grad_spikes.data ? read_lines<C>(a.grad_spikes, t, n0, m, spike_buffer) : kZeros<C>;
    const C* grad_v = a.grad_v_seq.data ? read_lines<C>(a.grad_v_seq, t, n0, m, v_buffer) : kZeros<C>;
    if (j >= kAhead)
      prefetch_row(a.grad_spikes, t - kAhead, n0, m);
    else if (t0 > 0)
      prefetch_row(a.x, t0 - K + kAhead - 1 - j, n0, m);
    else
      prefetch_row(a.x, (a.T - 1) / K * K + kAhead - 1 - j, n0 + m, next_block);
    grad_ahead.fetch();
    if constexpr (kHasMore<Neuron>)
      for (int k = Neuron::kFirstOutput; k < Neuron::kStates; k++)
        if (a.more_grad_outputs[k].data)
          add_row(grad.states[k], read_row<C>(a.more_grad_outputs[k], t, n0, m, v_buffer), m);
    C* grad_x = output_row<C>(a.grad_x, a.x.dtype, offset, lines != m || a.x_repeats || shifted, out_buffer);
    step_backward<Neuron, C, R, S, Uniform>(tape[j], grad_spikes, grad_v, grad.states, grad_x,
                                            reinterpret_cast<C(*)[kBlock]>(&grad.params[0][0]), coefficients, a, lines,
                                            writes_past(grad_x, streaming && grad_x != out_buffer));
    if constexpr (kHasMore<Neuron>)
      for (int k = Neuron::kFirstInput; k < Neuron::kFirstOutput; k++)
        flush_row(a.more_grad_inputs[k], a.x.dtype, offset, m, false, grad.states[k]);
    if (shifted)
      across.write(t, n0, m, static_cast<C*>(a.grad_x) + offset, out_buffer);
    else if (grad_x == out_buffer)
      a.x_repeats ? add_row(grad.x, out_buffer, m) : flush_row(a.grad_x, a.x.dtype, offset, m, streaming, out_buffer);
  }
}

template <class Neuron, class C, bool Uniform>
using SegmentBackward = decltype(&segment_backward<Neuron, C, Reset::none, Surrogate::straight_through, Uniform>);

// tape: tapes of checkpoint_every steps, refilled for each segment between checkpoints.
template <class Neuron, class C, Reset R, bool Uniform>
void backward_block(const NeuronBackward<Neuron>& a, SegmentBackward<Neuron, C, Uniform> run_segment, int64_t n0,
                    int64_t m, TapeRows<Neuron, C, Uniform> tape, RowsAhead& x_ahead, RowsAhead& grad_ahead,
                    AcrossLines<C>& across) {
  alignas(64) C state[Neuron::kStates][kBlock];
  alignas(64) C x_buffer[kBlock];
  BlockGradients<Neuron, C, Uniform> grad;
  const Coefficients<Neuron, C, Uniform> coefficients(a, n0, m);
  const int64_t K = a.checkpoint_every, lines = whole_lines<C>(m);
  for (int k = 0; k < Neuron::kStates; k++) {
    const C* in = static_cast<const C*>(a.grad_state_out[k]);
    for (int64_t i = 0; i < m; i++) grad.states[k][i] = in ? in[n0 + i] : C(0);
    fill_line(grad.states[k], m);
  }
  for (int k = 0; k < Neuron::kParams; k++)
    for (int64_t i = 0; i < (shared_parameter<Neuron, Uniform>(k) ? 0 : lines); i++) grad.params[k][i] = C(0);
  for (int64_t i = 0; i < (a.x_repeats ? m : 0); i++) grad.x[i] = C(0);
  fill_line(x_buffer, m);

  for (int64_t segment = a.T ? (a.T - 1) / K : -1; segment >= 0; segment--) {
    const int64_t t0 = segment * K, steps = min(a.T - t0, K);
    if (segment == 0) {
      load_initial_state(a, coefficients, n0, m, state);
    } else {
      for (int k = 0; k < Neuron::kStates; k++)
        copy(state[k], static_cast<const C*>(a.checkpoints) + ((segment - 1) * Neuron::kStates + k) * a.N + n0, m);
    }
    for (int64_t j = 0; j < steps; j++) {
      const C* x = read_lines<C>(a.x, t0 + j, n0, m, x_buffer);
      if (j + kAhead < steps)
        prefetch_row(a.x, t0 + j + kAhead, n0, m);
      else
        prefetch_row(a.grad_spikes, t0 + j, n0, m);
      x_ahead.fetch();
      read_more(a, t0 + j, n0, m, state);
      step<Neuron, C, R, Uniform, Record::tape>(x, state, tape[j], coefficients, lines);
    }
    run_segment(a, coefficients, tape, t0, steps, n0, m, grad, grad_ahead, across);
  }
  if (a.x_repeats) write_mean(a, grad.x, n0, m);
  for (int k = 0; k < Neuron::kStates; k++)
    if (a.grad_state_in[k]) copy(static_cast<C*>(a.grad_state_in[k]) + n0, grad.states[k], m);
  if constexpr (!kAllShared<Neuron, Uniform>) {
    for (int k = 0; k < Neuron::kStates; k++)
      for (int64_t i = 0; i < (a.state_in[k] ? 0 : m); i++) {
        C gp[Neuron::kParams];
        for (int p = 0; p < Neuron::kParams; p++) gp[p] = grad.params[p][i];
        Neuron::rest_backward(k, grad.states[k][i], gp);
        for (int p = 0; p < Neuron::kParams; p++) grad.params[p][i] = gp[p];
      }
  }
  if constexpr (!kAllShared<Neuron, Uniform>) {
    for (int k = 0; k < Neuron::kParams; k++)
      if (a.grad_param[k]) copy(static_cast<C*>(a.grad_param[k]) + n0, grad.params[k], m);
  }
}

// Dispatch from run-time choices to template arguments, block by block over neurons [begin, end).

template <class Neuron, class C, Reset R, bool Uniform>
void forward_uniform(const NeuronForward<Neuron>& a, int64_t begin, int64_t end) {
  RowsAhead ahead(a.x, a.T, a.T, begin, end, kBlock, Order::forward, beyond_caches<C>(a.T, a.N));
  AcrossLines<C> across(begin, end);
  for (int64_t n0 = begin; n0 < end; n0 += kBlock)
    forward_block<Neuron, C, R, Uniform>(a, n0, min(end - n0, kBlock), ahead, across);
  stream_done();
}

template <class Neuron, class C, Reset R>
void forward_blocks(const NeuronForward<Neuron>& a, int64_t begin, int64_t end) {
  constexpr bool number_kernel = kNumberKernel<Neuron>;
  number_kernel&& a.uniform() ? forward_uniform<Neuron, C, R, number_kernel>(a, begin, end)
                              : forward_uniform<Neuron, C, R, false>(a, begin, end);
}

template <class Neuron, class C>
void forward_as(const NeuronForward<Neuron>& a, int64_t begin, int64_t end) {
  switch (a.reset) {
    case Reset::hard: return forward_blocks<Neuron, C, Reset::hard>(a, begin, end);
    case Reset::soft: return forward_blocks<Neuron, C, Reset::soft>(a, begin, end);
    case Reset::none:
      if constexpr (Neuron::kReads) forward_blocks<Neuron, C, Reset::none>(a, begin, end);
  }
}

template <class Neuron>
void forward(const NeuronForward<Neuron>& a, int64_t begin, int64_t end) {
  a.x.dtype == Dtype::f64 ? forward_as<Neuron, double>(a, begin, end) : forward_as<Neuron, float>(a, begin, end);
}

template <class Neuron, class C, Reset R, bool Uniform>
SegmentBackward<Neuron, C, Uniform> segment_of(int32_t surrogate) {
  if constexpr (R == Reset::none || !Neuron::kTakesSlope) {
    return &segment_backward<Neuron, C, R, Surrogate::straight_through, Uniform>;
  } else if constexpr (!kSurrogateKernel<C, Uniform>) {
    return &segment_backward<Neuron, C, R, Surrogate::count, Uniform>;
  } else {
    return with_surrogate(surrogate,
                          [](auto known) { return &segment_backward<Neuron, C, R, decltype(known)::value, Uniform>; });
  }
}

template <class Neuron, class C, Reset R, bool Uniform>
void backward_parameters(const NeuronBackward<Neuron>& a, int64_t begin, int64_t end, void* scratch) {
  const auto run_segment = segment_of<Neuron, C, R, Uniform>(a.surrogate);
  const bool far = beyond_caches<C>(a.T, a.N);
  RowsAhead x_ahead(a.x, a.T, a.checkpoint_every, begin, end, kBlock, Order::forward, far);
  RowsAhead grad_ahead(a.grad_spikes, a.T, a.checkpoint_every, begin, end, kBlock, Order::backward, far);
  AcrossLines<C> across(begin, end);
  const auto tape = static_cast<TapeRows<Neuron, C, Uniform>>(scratch);
  for (int64_t n0 = begin; n0 < end; n0 += kBlock)
    backward_block<Neuron, C, R, Uniform>(a, run_segment, n0, min(end - n0, kBlock), tape, x_ahead, grad_ahead, across);
}

template <class Neuron, class C, Reset R>
void backward_blocks(const NeuronBackward<Neuron>& a, int64_t begin, int64_t end, void* scratch) {
  auto run = &backward_parameters<Neuron, C, R, false>;
  if constexpr (kInStrips<Neuron, C>)
    run = a.uniform() ? &backward_strips<Neuron, C, R> : run;
  else if constexpr (kNumberKernel<Neuron>)
    run = a.uniform() ? &backward_parameters<Neuron, C, R, true> : run;
  run(a, begin, end, scratch);
  stream_done();
}

template <class Neuron, class C>
void backward_as(const NeuronBackward<Neuron>& a, int64_t begin, int64_t end, void* scratch) {
  switch (a.reset) {
    case Reset::hard: return backward_blocks<Neuron, C, Reset::hard>(a, begin, end, scratch);
    case Reset::soft: return backward_blocks<Neuron, C, Reset::soft>(a, begin, end, scratch);
    case Reset::none:
      if constexpr (Neuron::kReads) backward_blocks<Neuron, C, Reset::none>(a, begin, end, scratch);
  }
}

// scratch: kNeuronTapeRows rows of a block for each step between checkpoints, 64-byte aligned, one per thread.
template <class Neuron>
void backward(const NeuronBackward<Neuron>& a, int64_t begin, int64_t end, void* scratch) {
  a.x.dtype == Dtype::f64 ? backward_as<Neuron, double>(a, begin, end, scratch)
                          : backward_as<Neuron, float>(a, begin, end, scratch);
}

}  // namespace
}  // namespace snnfast::cpu
