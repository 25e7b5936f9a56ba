// The scan over time on the CPU, forward and backward, for any neuron whose one-step maths stands in csrc/core.
// A block of neurons runs through all time steps before the next, so that its state stays in L1; within a step the
// neurons are SIMD lanes. Keep standard-library templates out of what the instruction-set builds include: the linker
// could keep an AVX-512 copy of one for everybody.
#pragma once
#include "core/neuron.h"
#include "core/surrogate.h"
#include "cpu/rows.h"

// Loops over the few states and parameters of a neuron must be gone before the loop over neurons is vectorised.
#define SNNFAST_SIMD _Pragma("GCC ivdep")
#define SNNFAST_UNROLL _Pragma("GCC unroll 8")

namespace snnfast::cpu {
namespace {

constexpr int64_t kBlock = 256;  // one tape of 32 steps in float is 32 KiB and stays in L1

// Coefficients of a block: one value each (Uniform), or one per neuron.
template <class Neuron, class C, bool Uniform>
struct Coefficients {
  alignas(64) C values[Neuron::kCoefficients][Uniform ? 1 : kBlock];

  Coefficients(const NeuronScan& a, int64_t n0, int64_t m) {
    for (int64_t i = 0; i < (Uniform ? 1 : m); i++) {
      C params[Neuron::kParams], c[Neuron::kCoefficients];
      for (int k = 0; k < Neuron::kParams; k++) {
        const Param& p = a.param[k];
        params[k] = p.data ? static_cast<const C*>(p.data)[(n0 + i) / p.inner % p.count] : static_cast<C>(p.value);
      }
      Neuron::coefficients(params, a.param[0].data != nullptr, a, c);
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kCoefficients; k++) values[k][i] = c[k];
    }
  }
  inline __attribute__((always_inline)) void of(int64_t i, C* c) const {
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kCoefficients; k++) c[k] = values[k][Uniform ? 0 : i];
  }
};

template <class Neuron, class C>
void load_initial_state(const NeuronScan& a, int64_t n0, int64_t m, C (*state)[kBlock]) {
  for (int k = 0; k < Neuron::kStates; k++) {
    const C* in = static_cast<const C*>(a.state_in[k]);
    const C rest = k == Neuron::kMembrane ? static_cast<C>(a.v_rest) : C(0);
    for (int64_t i = 0; i < m; i++) state[k][i] = in ? in[n0 + i] : rest;
  }
}

enum class Record { nothing, spikes, tape };

// What the backward pass needs of one step, as rows of a block: the membrane before reset, and where parameters get
// gradients also x and the state before the step.
enum : int { kTapeH, kTapeX, kTapeState };
template <class Neuron, bool Uniform>
constexpr int tape_rows() {
  return Uniform ? 1 : kTapeState + Neuron::kStates;
}

// One step of m neurons; out is the row of spikes or the tape's rows of this step.
template <class Neuron, class C, Reset R, bool Uniform, Record Out>
inline void step(const C* x, C (*states)[kBlock], C (*out)[kBlock], const Coefficients<Neuron, C, Uniform>& coefficients, C v_reset, C v_rest, int64_t m) {
  SNNFAST_SIMD
  for (int64_t i = 0; i < m; i++) {
    C c[Neuron::kCoefficients], state[Neuron::kStates];
    coefficients.of(i, c);
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) state[k] = states[k][i];
    if constexpr (Out == Record::tape && !Uniform) {
      out[kTapeX][i] = x[i];
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kStates; k++) out[kTapeState + k][i] = state[k];
    }
    Neuron::charge(x[i], state, c, v_rest);
    const C h = state[Neuron::kMembrane];
    if constexpr (Out == Record::tape) out[kTapeH][i] = h;
    if constexpr (R != Reset::none) {
      const bool fired = h >= c[Neuron::kThreshold];
      state[Neuron::kMembrane] = fired ? (R == Reset::hard ? v_reset : h - c[Neuron::kThreshold]) : h;
      if constexpr (Out == Record::spikes) out[0][i] = fired ? C(1) : C(0);
    }
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) states[k][i] = state[k];
  }
}

template <class Neuron, class C, Reset R, bool Uniform>
void forward_block(const NeuronForward& a, int64_t n0, int64_t m) {
  alignas(64) C state[Neuron::kStates][kBlock];
  alignas(64) C x_buffer[kBlock];
  alignas(64) C spike_buffer[kBlock];
  const Coefficients<Neuron, C, Uniform> coefficients(a, n0, m);
  const C v_reset = static_cast<C>(a.v_reset), v_rest = static_cast<C>(a.v_rest);
  const bool streaming = streams<C>(a.T, a.N);
  const int64_t left = a.N - n0 - m, next_block = left < kBlock ? left : kBlock;
  load_initial_state<Neuron, C>(a, n0, m, state);
  for (int64_t t = 0; t < a.T; t++) {
    if (a.checkpoints_out && t > 0 && t % a.checkpoint_every == 0)
      for (int k = 0; k < Neuron::kStates; k++)
        copy(static_cast<C*>(a.checkpoints_out) + ((t / a.checkpoint_every - 1) * Neuron::kStates + k) * a.N + n0, state[k], m);
    const C* x = read_row<C>(a.x, t, n0, m, x_buffer);
    if (t + kAhead < a.T)
      prefetch_row(a.x, t + kAhead, n0, m);
    else
      prefetch_row(a.x, t + kAhead - a.T, n0 + m, next_block);
    if constexpr (R == Reset::none) {
      step<Neuron, C, R, Uniform, Record::nothing>(x, state, nullptr, coefficients, v_reset, v_rest, m);
    } else {
      const int64_t offset = t * a.N + n0;
      C* spikes = output_row<C>(a.spikes, a.x.dtype, offset, streaming, spike_buffer);
      step<Neuron, C, R, Uniform, Record::spikes>(x, state, reinterpret_cast<C(*)[kBlock]>(spikes), coefficients, v_reset, v_rest, m);
      if (spikes == spike_buffer) flush_row(a.spikes, a.x.dtype, offset, m, spike_buffer);
    }
    if (a.v_seq) copy(static_cast<C*>(a.v_seq) + t * a.N + n0, state[Neuron::kMembrane], m);
  }
  for (int k = 0; k < Neuron::kStates; k++)
    if (a.state_out[k]) copy(static_cast<C*>(a.state_out[k]) + n0, state[k], m);
}

// Gradient of one step. grad: dL/d(state after the step) on entry, dL/d(state before it) on return.
template <class Neuron, class C, Reset R, Surrogate S, bool Uniform>
inline void step_backward(const C (*tape)[kBlock], const C* grad_spikes, const C* grad_v, C (*grad)[kBlock], C* grad_x, C (*grad_params)[kBlock],
                          const Coefficients<Neuron, C, Uniform>& coefficients, const NeuronBackward& a, int64_t m) {
  const C v_reset = static_cast<C>(a.v_reset), v_rest = static_cast<C>(a.v_rest), alpha = static_cast<C>(a.alpha);
  const bool detach_reset = a.detach_reset, decay_input = a.decay_input;
  SNNFAST_SIMD
  for (int64_t i = 0; i < m; i++) {
    C c[Neuron::kCoefficients], before[Neuron::kStates], g[Neuron::kStates], gp[Neuron::kParams];
    coefficients.of(i, c);
    const C x = Uniform ? C(0) : tape[Uniform ? 0 : kTapeX][i];
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) before[k] = Uniform ? C(0) : tape[Uniform ? 0 : kTapeState + k][i], g[k] = grad[k][i];
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kParams; k++) gp[k] = Uniform ? C(0) : grad_params[k][i];
    C g_v = g[Neuron::kMembrane] + grad_v[i];
    if constexpr (R != Reset::none) {
      const C h = tape[kTapeH][i], threshold = c[Neuron::kThreshold];
      const bool fired = h >= threshold;
      const C through_reset = g_v * (R == Reset::hard ? v_reset - h : -threshold);
      const C g_spike = grad_spikes[i] + (detach_reset ? C(0) : through_reset);
      const C g_u = g_spike * surrogate_derivative<S, C>(h - threshold, alpha);
      gp[1] -= g_u;
      if constexpr (R == Reset::soft) gp[1] -= fired ? g_v : C(0);
      if constexpr (R == Reset::hard) g_v = fired ? C(0) : g_v;
      g_v += g_u;
    }
    g[Neuron::kMembrane] = g_v;
    grad_x[i] = Neuron::charge_backward(x, before, c, v_rest, decay_input, g, gp);
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) grad[k][i] = g[k];
    if constexpr (!Uniform) {
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kParams; k++) grad_params[k][i] = gp[k];
    }
  }
}

// tape_memory: checkpoint_every tapes, filled anew for each segment between checkpoints.
template <class Neuron, class C, Reset R, Surrogate S, bool Uniform>
void backward_block(const NeuronBackward& a, int64_t n0, int64_t m, C* tape_memory) {
  alignas(64) C state[Neuron::kStates][kBlock], grad[Neuron::kStates][kBlock];
  alignas(64) C grad_params[Neuron::kParams][Uniform ? 1 : kBlock];
  alignas(64) C x_buffer[kBlock], spike_buffer[kBlock], v_buffer[kBlock], out_buffer[kBlock], zeros[kBlock];
  const Coefficients<Neuron, C, Uniform> coefficients(a, n0, m);
  const C v_reset = static_cast<C>(a.v_reset), v_rest = static_cast<C>(a.v_rest);
  const bool streaming = streams<C>(a.T, a.N);
  const int64_t left = a.N - n0 - m, next_block = left < kBlock ? left : kBlock;
  const int64_t K = a.checkpoint_every;
  const auto tape = [&](int64_t j) { return reinterpret_cast<C(*)[kBlock]>(tape_memory + j * tape_rows<Neuron, Uniform>() * kBlock); };
  for (int64_t i = 0; i < m; i++) zeros[i] = C(0);
  for (int k = 0; k < Neuron::kStates; k++) {
    const C* in = static_cast<const C*>(a.grad_state_out[k]);
    for (int64_t i = 0; i < m; i++) grad[k][i] = in ? in[n0 + i] : C(0);
  }
  for (int k = 0; k < Neuron::kParams; k++)
    for (int64_t i = 0; i < (Uniform ? 1 : m); i++) grad_params[k][i] = C(0);

  for (int64_t segment = a.T ? (a.T - 1) / K : -1; segment >= 0; segment--) {
    const int64_t t0 = segment * K, steps = a.T - t0 < K ? a.T - t0 : K;
    if (segment == 0) {
      load_initial_state<Neuron, C>(a, n0, m, state);
    } else {
      for (int k = 0; k < Neuron::kStates; k++) copy(state[k], static_cast<const C*>(a.checkpoints) + ((segment - 1) * Neuron::kStates + k) * a.N + n0, m);
    }
    for (int64_t j = 0; j < steps; j++) {
      const C* x = read_row<C>(a.x, t0 + j, n0, m, x_buffer);
      if (j + kAhead < steps)
        prefetch_row(a.x, t0 + j + kAhead, n0, m);
      else
        prefetch_row(a.grad_spikes, t0 + j, n0, m);
      step<Neuron, C, R, Uniform, Record::tape>(x, state, tape(j), coefficients, v_reset, v_rest, m);
    }
    for (int64_t j = steps - 1; j >= 0; j--) {
      const int64_t t = t0 + j, offset = t * a.N + n0;
      const C* grad_spikes = a.grad_spikes.data ? read_row<C>(a.grad_spikes, t, n0, m, spike_buffer) : zeros;
      const C* grad_v = a.grad_v_seq.data ? read_row<C>(a.grad_v_seq, t, n0, m, v_buffer) : zeros;
      if (j >= kAhead)
        prefetch_row(a.grad_spikes, t - kAhead, n0, m);
      else if (segment > 0)
        prefetch_row(a.x, t0 - K + kAhead - 1 - j, n0, m);
      else
        prefetch_row(a.x, (a.T - 1) / K * K + kAhead - 1 - j, n0 + m, next_block);
      C* grad_x = output_row<C>(a.grad_x, a.x.dtype, offset, streaming, out_buffer);
      step_backward<Neuron, C, R, S, Uniform>(tape(j), grad_spikes, grad_v, grad, grad_x, reinterpret_cast<C(*)[kBlock]>(&grad_params[0][0]), coefficients, a,
                                              m);
      if (grad_x == out_buffer) flush_row(a.grad_x, a.x.dtype, offset, m, out_buffer);
    }
  }
  for (int k = 0; k < Neuron::kStates; k++)
    if (a.grad_state_in[k]) copy(static_cast<C*>(a.grad_state_in[k]) + n0, grad[k], m);
  if constexpr (!Uniform)
    for (int k = 0; k < Neuron::kParams; k++)
      if (a.grad_param[k]) copy(static_cast<C*>(a.grad_param[k]) + n0, grad_params[k], m);
}

// ---- from run-time choices to template arguments, a block at a time over neurons [begin, end)

template <class Neuron>
bool uniform(const NeuronScan& a) {
  bool all = true;
  SNNFAST_UNROLL
  for (int k = 0; k < Neuron::kParams; k++) all = all && !a.param[k].data;
  return all;
}

template <class Neuron, class C, Reset R>
void forward_blocks(const NeuronForward& a, int64_t begin, int64_t end) {
  const auto run = uniform<Neuron>(a) ? &forward_block<Neuron, C, R, true> : &forward_block<Neuron, C, R, false>;
  for (int64_t n0 = begin; n0 < end; n0 += kBlock) run(a, n0, end - n0 < kBlock ? end - n0 : kBlock);
  stream_done();
}

template <class Neuron, class C>
void forward_as(const NeuronForward& a, int64_t begin, int64_t end) {
  switch (a.reset) {
    case Reset::hard: return forward_blocks<Neuron, C, Reset::hard>(a, begin, end);
    case Reset::soft: return forward_blocks<Neuron, C, Reset::soft>(a, begin, end);
    case Reset::none: return forward_blocks<Neuron, C, Reset::none>(a, begin, end);
  }
}

template <class Neuron>
void forward(const NeuronForward& a, int64_t begin, int64_t end) {
  a.x.dtype == Dtype::f64 ? forward_as<Neuron, double>(a, begin, end) : forward_as<Neuron, float>(a, begin, end);
}

template <class Neuron, class C, Reset R, Surrogate S>
void backward_blocks(const NeuronBackward& a, int64_t begin, int64_t end, void* scratch) {
  const auto run = uniform<Neuron>(a) ? &backward_block<Neuron, C, R, S, true> : &backward_block<Neuron, C, R, S, false>;
  for (int64_t n0 = begin; n0 < end; n0 += kBlock) run(a, n0, end - n0 < kBlock ? end - n0 : kBlock, static_cast<C*>(scratch));
  stream_done();
}

template <class Neuron, class C, Reset R>
void backward_surrogate(const NeuronBackward& a, int64_t begin, int64_t end, void* scratch) {
  switch (static_cast<Surrogate>(a.surrogate)) {
    case Surrogate::atan: return backward_blocks<Neuron, C, R, Surrogate::atan>(a, begin, end, scratch);
    case Surrogate::sigmoid: return backward_blocks<Neuron, C, R, Surrogate::sigmoid>(a, begin, end, scratch);
    case Surrogate::fast_sigmoid: return backward_blocks<Neuron, C, R, Surrogate::fast_sigmoid>(a, begin, end, scratch);
    case Surrogate::rectangle: return backward_blocks<Neuron, C, R, Surrogate::rectangle>(a, begin, end, scratch);
    case Surrogate::triangle: return backward_blocks<Neuron, C, R, Surrogate::triangle>(a, begin, end, scratch);
    case Surrogate::gaussian: return backward_blocks<Neuron, C, R, Surrogate::gaussian>(a, begin, end, scratch);
    case Surrogate::straight_through: return backward_blocks<Neuron, C, R, Surrogate::straight_through>(a, begin, end, scratch);
    case Surrogate::count: return;
  }
}

template <class Neuron, class C>
void backward_as(const NeuronBackward& a, int64_t begin, int64_t end, void* scratch) {
  switch (a.reset) {
    case Reset::hard: return backward_surrogate<Neuron, C, Reset::hard>(a, begin, end, scratch);
    case Reset::soft: return backward_surrogate<Neuron, C, Reset::soft>(a, begin, end, scratch);
    case Reset::none: return backward_blocks<Neuron, C, Reset::none, Surrogate::straight_through>(a, begin, end, scratch);
  }
}

// scratch: room for checkpoint_every tapes of a block, 64-byte aligned, one per thread.
template <class Neuron>
void backward(const NeuronBackward& a, int64_t begin, int64_t end, void* scratch) {
  a.x.dtype == Dtype::f64 ? backward_as<Neuron, double>(a, begin, end, scratch) : backward_as<Neuron, float>(a, begin, end, scratch);
}

}  // namespace
}  // namespace snnfast::cpu
