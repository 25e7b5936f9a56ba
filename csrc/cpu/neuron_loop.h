// The scan over time on the CPU, forward and backward, for any neuron whose one-step maths stands in csrc/core.
// A block of neurons runs through all time steps before the next, so that its state stays in L1; within a step the
// neurons are SIMD lanes. Keep standard-library templates out of what the instruction-set builds include: the linker
// could keep an AVX-512 copy of one for everybody.
#pragma once
#include "core/neuron.h"
#include "core/surrogate.h"
#include "cpu/rows.h"

// SNNFAST_SIMD over the numbers of one line. Unrolled before it is vectorised, it would not be.
#define SNNFAST_LINE_SIMD SNNFAST_SIMD _Pragma("GCC unroll 1")

namespace snnfast::cpu::SNNFAST_ISA {

// Replaces the m margins of a row by the surrogate's slopes there. Apart from the neuron's maths (slopes.cpp), which would else be
// compiled for each surrogate.
void slopes(int32_t surrogate, float* row, float alpha, int64_t m);
void slopes(int32_t surrogate, double* row, double alpha, int64_t m);

}  // namespace snnfast::cpu::SNNFAST_ISA

namespace snnfast::cpu {
namespace {

constexpr int64_t kBlock = kNeuronBlock;

// What has a kernel of its own, which is fast and takes long to compile: parameters that are all numbers, and with them each
// surrogate in float.
#ifdef SNNFAST_COMPACT
template <class Neuron>
constexpr bool kOwnForNumbers = false;
#else
template <class Neuron>
constexpr bool kOwnForNumbers = !Neuron::kSeldom;
#endif
template <class C, bool Uniform>
constexpr bool kOwnForSurrogates = Uniform && sizeof(C) == sizeof(float);

// A step takes whole lines of 64 bytes. What a block's last line has behind neuron m is computed, too, and kept by nobody.
template <class C>
inline int64_t whole_lines(int64_t m) {
  return (m + kLine<C> - 1) / kLine<C> * kLine<C>;
}
template <class C>
inline void fill_line(C* row, int64_t m) {
  for (int64_t i = m; i < whole_lines<C>(m); i++) row[i] = C(0);
}

// Whether nothing of the parameters differs from neuron to neuron.
template <class Neuron, bool Uniform>
constexpr bool kAlike = Uniform && Neuron::kEach == 0;

// Coefficients of a block: one value each (Uniform), or one per neuron.
template <class Neuron, class C, bool Uniform>
struct Coefficients {
  alignas(64) C values[Neuron::kCoefficients][kAlike<Neuron, Uniform> ? 1 : kBlock];

  Coefficients(const NeuronScan<Neuron>& a, int64_t n0, int64_t m) {
    if constexpr (Uniform) {
      C c[Neuron::kCoefficients];
      neuron_coefficients<Neuron, C>(a, n0, c);
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kCoefficients; k++) values[k][0] = c[k];
    }
    if constexpr (!kAlike<Neuron, Uniform>) of_each(a, n0, m);
  }
  inline __attribute__((always_inline)) void of(int64_t i, C* c) const {
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kCoefficients; k++) c[k] = values[k][shared_by_all<Neuron, Uniform>(k, Neuron::kCoefficients) ? 0 : i];
  }
  // In a loop over neurons, with those of neuron 0 read before it: so shared ones stay in registers, whatever the loop writes.
  inline __attribute__((always_inline)) void of(int64_t i, const C* shared, C* c) const {
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kCoefficients; k++) {
      const bool one = shared_by_all<Neuron, Uniform>(k, Neuron::kCoefficients);
      c[k] = one || (!kByMembrane<Neuron> && k == Neuron::kLeast) ? shared[k] : values[k][one ? 0 : i];
    }
  }

 private:
  // Of parameters as rows: to find those of one neuron takes two divisions each, which few steps would not hide.
  void of_each(const NeuronScan<Neuron>& a, int64_t n0, int64_t m) {
    alignas(64) C params[Neuron::kParams][kBlock];
    for (int k = 0; k < Neuron::kParams; k++)
      if (!shared_by_all<Neuron, Uniform>(k, Neuron::kParams)) SNNFAST_ISA::read_param(a.param[k], n0, m, whole_lines<C>(m), params[k]);
    for (int64_t i = 0; i < whole_lines<C>(m); i++) {
      C c[Neuron::kCoefficients], own[Neuron::kParams];
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kParams; k++) own[k] = shared_by_all<Neuron, Uniform>(k, Neuron::kParams) ? C(0) : params[k][i];
      neuron_coefficients<Neuron, C>(a, own, c);
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kCoefficients; k++)
        if (!shared_by_all<Neuron, Uniform>(k, Neuron::kCoefficients)) values[k][i] = c[k];
    }
  }
};

template <class Neuron, class C, bool Uniform>
void load_initial_state(const NeuronScan<Neuron>& a, const Coefficients<Neuron, C, Uniform>& coefficients, int64_t n0, int64_t m, C (*state)[kBlock]) {
  for (int k = 0; k < Neuron::kStates; k++) {
    const C* in = static_cast<const C*>(a.state_in[k]);
    for (int64_t i = 0; i < m; i++) {
      C c[Neuron::kCoefficients];
      coefficients.of(i, c);
      state[k][i] = in ? in[n0 + i] : Neuron::rest(k, c);
    }
    fill_line(state[k], m);
  }
}

enum class Record { nothing, spikes, tape };

// The same rows from neuron i of the block on.
template <class C>
inline auto from(C (*rows)[kBlock], int64_t i) {
  return reinterpret_cast<C(*)[kBlock]>(reinterpret_cast<C*>(rows) + i);
}

// What the backward pass needs of one step, as rows of a block: the charged states and, where its maths reads them, x and
// the states before the step.
template <class Neuron, bool Uniform>
struct Tape {
  static constexpr bool kBefore = !Uniform, kInput = kBefore || Neuron::kEach > 0;
  enum : int { kX = Neuron::kTape, kState = kX + kInput, kRows = kState + kBefore * Neuron::kStates };
  static_assert(kRows <= kNeuronTapeRows<Neuron>);
};
// One step of m neurons, which are whole lines; out is the row of spikes, maybe past the caches, or the tape's rows of this step.
template <class Neuron, class C, Reset R, bool Uniform, Record Out>
inline void step(const C* x, C (*states)[kBlock], C (*out)[kBlock], const Coefficients<Neuron, C, Uniform>& coefficients, int64_t m, bool past = false) {
  using Rows = Tape<Neuron, Uniform>;
  C shared[Neuron::kCoefficients];
  coefficients.of(0, shared);
  for (int64_t i = 0; i < m; i += kLine<C>) {
    alignas(64) C spikes[kLine<C>];
    const C* const x_line = x + i;
    const auto states_line = from(states, i), out_line = from(out, i);
    SNNFAST_LINE_SIMD
    for (int64_t l = 0; l < kLine<C>; l++) {
      C c[Neuron::kCoefficients], state[Neuron::kStates], charged[Neuron::kTape];
      coefficients.of(i + l, shared, c);
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kStates; k++) state[k] = states_line[k][l];
      if constexpr (Out == Record::tape && Rows::kInput) out_line[Rows::kX][l] = x_line[l];
      if constexpr (Out == Record::tape && Rows::kBefore) {
        SNNFAST_UNROLL
        for (int k = 0; k < Neuron::kStates; k++) out_line[Rows::kState + k][l] = state[k];
      }
      spikes[l] = neuron_step<Neuron, R>(x_line[l], c, state, charged);
      if constexpr (Out == Record::tape) {
        SNNFAST_UNROLL
        for (int k = 0; k < Neuron::kTape; k++) out_line[k][l] = charged[k];
      }
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kStates; k++) states_line[k][l] = state[k];
    }
    if constexpr (Out == Record::spikes) write_line(*out_line, spikes, past);
  }
}

template <class Neuron, class C, Reset R, bool Uniform>
void forward_block(const NeuronForward<Neuron>& a, int64_t n0, int64_t m, RowsAhead& ahead) {
  alignas(64) C state[Neuron::kStates][kBlock];
  alignas(64) C x_buffer[kBlock];
  alignas(64) C spike_buffer[kBlock];
  const int64_t lines = whole_lines<C>(m);
  const Coefficients<Neuron, C, Uniform> coefficients(a, n0, m);
  const bool streaming = streams<C>(a.T, a.N);
  const int64_t next_block = min(a.N - n0 - m, kBlock);
  load_initial_state(a, coefficients, n0, m, state);
  fill_line(x_buffer, m);
  for (int64_t t = 0; t < a.T; t++) {
    if (a.checkpoints_out && t > 0 && t % a.checkpoint_every == 0)
      for (int k = 0; k < Neuron::kStates; k++)
        copy(static_cast<C*>(a.checkpoints_out) + ((t / a.checkpoint_every - 1) * Neuron::kStates + k) * a.N_all + n0, state[k], m);
    const C* x = read_lines<C>(a.x, t, n0, m, x_buffer);
    if (t + kAhead < a.T)
      prefetch_row(a.x, t + kAhead, n0, m);
    else
      prefetch_row(a.x, t + kAhead - a.T, n0 + m, next_block);
    ahead.fetch();
    if constexpr (R == Reset::none) {
      step<Neuron, C, R, Uniform, Record::nothing>(x, state, &spike_buffer, coefficients, lines);
    } else {
      const int64_t offset = t * a.N + n0;
      C* spikes = output_row<C>(a.spikes, a.x.dtype, offset, lines != m, spike_buffer);
      step<Neuron, C, R, Uniform, Record::spikes>(x, state, reinterpret_cast<C(*)[kBlock]>(spikes), coefficients, lines,
                                                  writes_past(spikes, streaming && spikes != spike_buffer));
      if (spikes == spike_buffer) flush_row(a.spikes, a.x.dtype, offset, m, streaming, spike_buffer);
    }
    if (a.v_seq) copy(static_cast<C*>(a.v_seq) + t * a.N + n0, state[0], m);
  }
  for (int k = 0; k < Neuron::kStates; k++)
    if (a.state_out[k]) copy(static_cast<C*>(a.state_out[k]) + n0, state[k], m);
}

// Where the surrogate's slope is taken.
template <class Neuron, class C, bool Uniform>
void margins(const C (*tape)[kBlock], const Coefficients<Neuron, C, Uniform>& coefficients, C* out, int64_t m) {
  SNNFAST_SIMD
  for (int64_t i = 0; i < m; i++) {
    C c[Neuron::kCoefficients], charged[Neuron::kTape];
    coefficients.of(i, c);
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kTape; k++) charged[k] = tape[k][i];
    out[i] = neuron_margin<Neuron>(charged, c);
  }
}

// Gradient of one step of m neurons, which are whole lines. grad: dL/d(states after the step) on entry, dL/d(states before it) on return. S is `count` where
// the surrogate is not known before.
template <class Neuron, class C, Reset R, Surrogate S, bool Uniform>
inline void step_backward(const C (*tape)[kBlock], const C* grad_spikes, const C* grad_v, C (*grad)[kBlock], C* grad_x, C (*grad_params)[kBlock],
                          const Coefficients<Neuron, C, Uniform>& coefficients, const NeuronBackward<Neuron>& a, int64_t m, bool past) {
  using Rows = Tape<Neuron, Uniform>;
  const C alpha = static_cast<C>(a.alpha);
  // As a line: GCC would compile the loop once more for 0, and its result would no longer stay in a register.
  alignas(64) C attached[kLine<C>];
  for (C& one : attached) one = a.detach_reset ? C(0) : C(1);
  C settings[Neuron::kSettings], shared[Neuron::kCoefficients];
  neuron_settings(a, settings);
  coefficients.of(0, shared);
  alignas(64) C slope_row[S == Surrogate::count ? kBlock : 1];
  if constexpr (S == Surrogate::count) {
    margins(tape, coefficients, slope_row, m);
    SNNFAST_ISA::slopes(a.surrogate, slope_row, alpha, m);
  }
  for (int64_t i0 = 0; i0 < m; i0 += kLine<C>) {
    alignas(64) C line[kLine<C>];
    SNNFAST_LINE_SIMD
    for (int64_t l = 0; l < kLine<C>; l++) {
      const int64_t i = i0 + l;
      C c[Neuron::kCoefficients], charged[Neuron::kTape], before[Neuron::kStates], g[Neuron::kStates], gp[Neuron::kParams];
      coefficients.of(i, shared, c);
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kTape; k++) charged[k] = tape[k][i];
      const C x = Rows::kInput ? tape[Rows::kInput ? Rows::kX : 0][i] : C(0);
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kStates; k++) before[k] = Rows::kBefore ? tape[Rows::kBefore ? Rows::kState + k : 0][i] : C(0), g[k] = grad[k][i];
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kParams; k++) gp[k] = shared_by_all<Neuron, Uniform>(k, Neuron::kParams) ? C(0) : grad_params[k][i];
      g[0] += grad_v[i];
      C slope = C(0);
      if constexpr (S == Surrogate::count)
        slope = slope_row[i];
      else if constexpr (R != Reset::none)
        slope = surrogate_derivative<S, C>(neuron_margin<Neuron>(charged, c), alpha);
      line[l] = neuron_step_backward<Neuron, R>(x, before, charged, c, settings, grad_spikes[i], slope, attached[l], g, gp);
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kStates; k++) grad[k][i] = g[k];
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kParams; k++)
        if (!shared_by_all<Neuron, Uniform>(k, Neuron::kParams)) grad_params[k][i] = gp[k];
    }
    write_line(grad_x + i0, line, past);
  }
}

// Not inline: seldom, and the loop that calls it would be slower.
template <class C>
__attribute__((noinline)) void add_row(C* sums, const C* row, int64_t m) {
  SNNFAST_SIMD
  for (int64_t i = 0; i < m; i++) sums[i] += row[i];
}

// What a block carries backward through its steps.
template <class Neuron, class C, bool Uniform>
struct BlockGradients {
  alignas(64) C states[Neuron::kStates][kBlock];
  alignas(64) C params[Neuron::kParams][kAlike<Neuron, Uniform> ? 1 : kBlock];
  alignas(64) C x[kBlock];  // the sum over the steps, where that is wanted
};

template <class Neuron, class C, bool Uniform>
using TapeRows = C (*)[Tape<Neuron, Uniform>::kRows][kBlock];  // of every step of a segment

// Backward through the steps [t0, t0 + steps) of a block, whose tape is filled. Alone in knowing the surrogate: the rest of a
// block is not compiled for each.
template <class Neuron, class C, Reset R, Surrogate S, bool Uniform>
__attribute__((noinline)) void segment_backward(const NeuronBackward<Neuron>& a, const Coefficients<Neuron, C, Uniform>& coefficients,
                                                TapeRows<Neuron, C, Uniform> tape, int64_t t0, int64_t steps, int64_t n0, int64_t m,
                                                BlockGradients<Neuron, C, Uniform>& grad, RowsAhead& grad_ahead) {
  alignas(64) C spike_buffer[kBlock], v_buffer[kBlock], out_buffer[kBlock], zeros[kBlock] = {};
  const bool streaming = streams<C>(a.T, a.N_all);
  const int64_t next_block = min(a.N - n0 - m, kBlock);
  const int64_t K = a.checkpoint_every, lines = whole_lines<C>(m);
  fill_line(spike_buffer, m);
  fill_line(v_buffer, m);
  for (int64_t j = steps - 1; j >= 0; j--) {
    const int64_t t = t0 + j, offset = t * a.N_all + n0;
    const C* grad_spikes = a.grad_spikes.data ? read_lines<C>(a.grad_spikes, t, n0, m, spike_buffer) : zeros;
    const C* grad_v = a.grad_v_seq.data ? read_lines<C>(a.grad_v_seq, t, n0, m, v_buffer) : zeros;
    if (j >= kAhead)
      prefetch_row(a.grad_spikes, t - kAhead, n0, m);
    else if (t0 > 0)
      prefetch_row(a.x, t0 - K + kAhead - 1 - j, n0, m);
    else
      prefetch_row(a.x, (a.T - 1) / K * K + kAhead - 1 - j, n0 + m, next_block);
    grad_ahead.fetch();
    C* grad_x = output_row<C>(a.grad_x, a.x.dtype, offset, lines != m || a.x_repeats, out_buffer);
    step_backward<Neuron, C, R, S, Uniform>(tape[j], grad_spikes, grad_v, grad.states, grad_x, reinterpret_cast<C(*)[kBlock]>(&grad.params[0][0]), coefficients,
                                            a, lines, writes_past(grad_x, streaming && grad_x != out_buffer));
    if (grad_x == out_buffer) a.x_repeats ? add_row(grad.x, out_buffer, m) : flush_row(a.grad_x, a.x.dtype, offset, m, streaming, out_buffer);
  }
}

template <class Neuron, class C, bool Uniform>
using SegmentBackward = decltype(&segment_backward<Neuron, C, Reset::none, Surrogate::straight_through, Uniform>);

// tape: checkpoint_every tapes, filled anew for each segment between checkpoints.
template <class Neuron, class C, Reset R, bool Uniform>
void backward_block(const NeuronBackward<Neuron>& a, SegmentBackward<Neuron, C, Uniform> run_segment, int64_t n0, int64_t m, TapeRows<Neuron, C, Uniform> tape,
                    RowsAhead& x_ahead, RowsAhead& grad_ahead) {
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
    for (int64_t i = 0; i < (shared_by_all<Neuron, Uniform>(k, Neuron::kParams) ? 0 : lines); i++) grad.params[k][i] = C(0);
  for (int64_t i = 0; i < (a.x_repeats ? m : 0); i++) grad.x[i] = C(0);
  fill_line(x_buffer, m);

  for (int64_t segment = a.T ? (a.T - 1) / K : -1; segment >= 0; segment--) {
    const int64_t t0 = segment * K, steps = min(a.T - t0, K);
    if (segment == 0) {
      load_initial_state(a, coefficients, n0, m, state);
    } else {
      for (int k = 0; k < Neuron::kStates; k++) copy(state[k], static_cast<const C*>(a.checkpoints) + ((segment - 1) * Neuron::kStates + k) * a.N_all + n0, m);
    }
    for (int64_t j = 0; j < steps; j++) {
      const C* x = read_lines<C>(a.x, t0 + j, n0, m, x_buffer);
      if (j + kAhead < steps)
        prefetch_row(a.x, t0 + j + kAhead, n0, m);
      else
        prefetch_row(a.grad_spikes, t0 + j, n0, m);
      x_ahead.fetch();
      step<Neuron, C, R, Uniform, Record::tape>(x, state, tape[j], coefficients, lines);
    }
    run_segment(a, coefficients, tape, t0, steps, n0, m, grad, grad_ahead);
  }
  if (a.x_repeats) {
    const C share = C(1) / static_cast<C>(a.T);
    SNNFAST_SIMD
    for (int64_t i = 0; i < m; i++) grad.x[i] *= share;
    flush_row(a.grad_x, a.x.dtype, n0, m, false, grad.x);
  }
  for (int k = 0; k < Neuron::kStates; k++)
    if (a.grad_state_in[k]) copy(static_cast<C*>(a.grad_state_in[k]) + n0, grad.states[k], m);
  if constexpr (!Uniform) {
    for (int k = 0; k < Neuron::kStates; k++)
      for (int64_t i = 0; i < (a.state_in[k] ? 0 : m); i++) {
        C gp[Neuron::kParams];
        for (int p = 0; p < Neuron::kParams; p++) gp[p] = grad.params[p][i];
        Neuron::rest_backward(k, grad.states[k][i], gp);
        for (int p = 0; p < Neuron::kParams; p++) grad.params[p][i] = gp[p];
      }
  }
  if constexpr (!kAlike<Neuron, Uniform>) {
    for (int k = 0; k < Neuron::kParams; k++)
      if (a.grad_param[k]) copy(static_cast<C*>(a.grad_param[k]) + n0, grad.params[k], m);
  }
}

// ---- from run-time choices to template arguments, a block at a time over neurons [begin, end)

template <class Neuron, class C, Reset R>
void forward_blocks(const NeuronForward<Neuron>& a, int64_t begin, int64_t end) {
  constexpr bool own = kOwnForNumbers<Neuron>;
  const auto run = own && a.uniform() ? &forward_block<Neuron, C, R, own> : &forward_block<Neuron, C, R, false>;
  RowsAhead ahead(a.x, a.T, a.T, begin, end, kBlock, Order::forward, beyond_caches<C>(a.T, a.N_all));
  for (int64_t n0 = begin; n0 < end; n0 += kBlock) run(a, n0, min(end - n0, kBlock), ahead);
  stream_done();
}

template <class Neuron, class C>
void forward_as(const NeuronForward<Neuron>& a, int64_t begin, int64_t end) {
  switch (a.reset) {
    case Reset::hard: return forward_blocks<Neuron, C, Reset::hard>(a, begin, end);
    case Reset::soft: return forward_blocks<Neuron, C, Reset::soft>(a, begin, end);
    case Reset::none:
      if constexpr (!Neuron::kSeldom) forward_blocks<Neuron, C, Reset::none>(a, begin, end);
  }
}

template <class Neuron>
void forward(const NeuronForward<Neuron>& a, int64_t begin, int64_t end) {
  a.x.dtype == Dtype::f64 ? forward_as<Neuron, double>(a, begin, end) : forward_as<Neuron, float>(a, begin, end);
}

template <class Neuron, class C, Reset R, bool Uniform>
SegmentBackward<Neuron, C, Uniform> segment_of(int32_t surrogate) {
  if constexpr (R == Reset::none) {
    return &segment_backward<Neuron, C, R, Surrogate::straight_through, Uniform>;
  } else if constexpr (!kOwnForSurrogates<C, Uniform>) {
    return &segment_backward<Neuron, C, R, Surrogate::count, Uniform>;
  } else {
    return with_surrogate(surrogate, [](auto known) { return &segment_backward<Neuron, C, R, decltype(known)::value, Uniform>; });
  }
}

template <class Neuron, class C, Reset R, bool Uniform>
void backward_parameters(const NeuronBackward<Neuron>& a, int64_t begin, int64_t end, void* scratch) {
  const auto run_segment = segment_of<Neuron, C, R, Uniform>(a.surrogate);
  const bool far = beyond_caches<C>(a.T, a.N_all);
  RowsAhead x_ahead(a.x, a.T, a.checkpoint_every, begin, end, kBlock, Order::forward, far);
  RowsAhead grad_ahead(a.grad_spikes, a.T, a.checkpoint_every, begin, end, kBlock, Order::backward, far);
  const auto tape = static_cast<TapeRows<Neuron, C, Uniform>>(scratch);
  for (int64_t n0 = begin; n0 < end; n0 += kBlock) backward_block<Neuron, C, R, Uniform>(a, run_segment, n0, min(end - n0, kBlock), tape, x_ahead, grad_ahead);
}

template <class Neuron, class C, Reset R>
void backward_blocks(const NeuronBackward<Neuron>& a, int64_t begin, int64_t end, void* scratch) {
  constexpr bool own = kOwnForNumbers<Neuron>;
  const auto run = own && a.uniform() ? &backward_parameters<Neuron, C, R, own> : &backward_parameters<Neuron, C, R, false>;
  run(a, begin, end, scratch);
  stream_done();
}

template <class Neuron, class C>
void backward_as(const NeuronBackward<Neuron>& a, int64_t begin, int64_t end, void* scratch) {
  switch (a.reset) {
    case Reset::hard: return backward_blocks<Neuron, C, Reset::hard>(a, begin, end, scratch);
    case Reset::soft: return backward_blocks<Neuron, C, Reset::soft>(a, begin, end, scratch);
    case Reset::none:
      if constexpr (!Neuron::kSeldom) backward_blocks<Neuron, C, Reset::none>(a, begin, end, scratch);
  }
}

// scratch: kNeuronTapeRows rows of a block for each step between checkpoints, 64-byte aligned, one scratch per thread.
template <class Neuron>
void backward(const NeuronBackward<Neuron>& a, int64_t begin, int64_t end, void* scratch) {
  a.x.dtype == Dtype::f64 ? backward_as<Neuron, double>(a, begin, end, scratch) : backward_as<Neuron, float>(a, begin, end, scratch);
}

}  // namespace
}  // namespace snnfast::cpu
