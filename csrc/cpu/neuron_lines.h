// One step of a line of neurons on the CPU, forward and backward, for any neuron (core/neuron.h): the neurons are SIMD
// lanes. Keep standard-library templates out of code that is compiled per instruction set: the linker could keep an
// AVX-512 copy of one for all of them.
#pragma once
#include "core/neuron.h"
#include "core/surrogate.h"
#include "cpu/rows.h"

// SNNFAST_SIMD over the numbers of one line. Unrolling before vectorisation would prevent it.
#define SNNFAST_LINE_SIMD SNNFAST_SIMD _Pragma("GCC unroll 1")

namespace snnfast::cpu {
namespace {

constexpr int64_t kBlock = kNeuronBlock;

// Cases with a separate kernel, fast and slow to compile: all parameters are numbers, and with them each surrogate in
// float.
#ifdef SNNFAST_COMPACT
template <class Neuron>
constexpr bool kNumberKernel = false;
#else
template <class Neuron>
constexpr bool kNumberKernel = !Neuron::kGeneric;
#endif
template <class C, bool Uniform>
constexpr bool kSurrogateKernel = Uniform && sizeof(C) == sizeof(float);

// A step processes whole lines of 64 bytes. Lanes after neuron m in the last line are computed, too, but not used.
template <class C>
inline int64_t whole_lines(int64_t m) {
  return (m + kLine<C> - 1) / kLine<C> * kLine<C>;
}
template <class C>
inline void fill_line(C* row, int64_t m) {
  for (int64_t i = m; i < whole_lines<C>(m); i++) row[i] = C(0);
}

// Whether all neurons share all parameters.
template <class Neuron, bool Uniform>
constexpr bool kAllShared = Uniform && Neuron::kEach == 0;

// Coefficients of a block: one value (Uniform), or one per neuron.
template <class Neuron, class C, bool Uniform>
struct Coefficients {
  alignas(64) C values[Neuron::kCoefficients][kAllShared<Neuron, Uniform> ? 1 : kBlock];

  Coefficients(const NeuronScan<Neuron>& a, int64_t n0, int64_t m) {
    if constexpr (Uniform) {
      C c[Neuron::kCoefficients];
      neuron_coefficients<Neuron, C>(a, n0, c);
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kCoefficients; k++) values[k][0] = c[k];
    }
    if constexpr (!kAllShared<Neuron, Uniform>) load_rows(a, n0, m);
  }
  inline __attribute__((always_inline)) void load(int64_t i, C* c) const {
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kCoefficients; k++) c[k] = values[k][shared_coefficient<Neuron, Uniform>(k) ? 0 : i];
  }
  // For a loop over neurons; `shared` are the coefficients of neuron 0, read before the loop, so that shared ones stay
  // in registers, whatever the loop writes.
  inline __attribute__((always_inline)) void load(int64_t i, const C* shared, C* c) const {
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kCoefficients; k++) {
      const bool is_shared = shared_coefficient<Neuron, Uniform>(k),
                 least = Neuron::kTakesSlope && !kByMembrane<Neuron> && k == 0;
      c[k] = is_shared || least ? shared[k] : values[k][is_shared ? 0 : i];
    }
  }

 private:
  // Reads parameters as rows: indexing those of one neuron takes two divisions each, which few steps would not hide.
  void load_rows(const NeuronScan<Neuron>& a, int64_t n0, int64_t m) {
    alignas(64) C params[Neuron::kParams][kBlock];
    for (int k = 0; k < Neuron::kParams; k++)
      if (!shared_parameter<Neuron, Uniform>(k))
        SNNFAST_ISA::read_param(a.param[k], n0, m, whole_lines<C>(m), params[k]);
    for (int64_t i = 0; i < whole_lines<C>(m); i++) {
      C c[Neuron::kCoefficients], neuron_params[Neuron::kParams];
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kParams; k++)
        neuron_params[k] = shared_parameter<Neuron, Uniform>(k) ? C(0) : params[k][i];
      neuron_coefficients<Neuron, C>(a, neuron_params, c);
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::kCoefficients; k++)
        if (!shared_coefficient<Neuron, Uniform>(k)) values[k][i] = c[k];
    }
  }
};

template <class Neuron, class C, bool Uniform>
void load_initial_state(const NeuronScan<Neuron>& a, const Coefficients<Neuron, C, Uniform>& coefficients, int64_t n0,
                        int64_t m, C (*state)[kBlock]) {
  for (int k = 0; k < Neuron::kStates; k++) {
    const C* in = static_cast<const C*>(a.state_in[k]);
    for (int64_t i = 0; i < m; i++) {
      C c[Neuron::kCoefficients];
      coefficients.load(i, c);
      state[k][i] = in ? in[n0 + i] : Neuron::rest(k, c);
    }
    fill_line(state[k], m);
  }
}

enum class Record { nothing, spikes, tape };

// The same rows, starting at neuron i of the block.
template <class C, int64_t Width>
inline auto from(C (*rows)[Width], int64_t i) {
  return reinterpret_cast<C(*)[Width]>(reinterpret_cast<C*>(rows) + i);
}

// One step of a line of neurons, starting at neuron i of the block. out: tape rows of this step.
template <class Neuron, class C, Reset R, bool Uniform, Record Out, int64_t Width, int64_t TapeWidth>
inline __attribute__((always_inline)) void step_line(const C* x, C (*states)[Width], C (*out)[TapeWidth], C* spikes,
                                                     const Coefficients<Neuron, C, Uniform>& coefficients,
                                                     const C* shared, int64_t i) {
  SNNFAST_LINE_SIMD
  for (int64_t l = 0; l < kLine<C>; l++) {
    C c[Neuron::kCoefficients], state[Neuron::kStates], tape[Neuron::template kTape<Uniform>] = {};
    coefficients.load(i + l, shared, c);
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) state[k] = states[k][l];
    spikes[l] = Neuron::template step<R, Uniform>(x[l], c, state, tape);
    if constexpr (Out == Record::tape) {
      SNNFAST_UNROLL
      for (int k = 0; k < Neuron::template kTape<Uniform>; k++) out[k][l] = tape[k];
    }
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) states[k][l] = state[k];
  }
}

// Arguments that the gradients of all lines share.
template <class Neuron, class C, bool Uniform>
struct LineConstants {
  C alpha, shared[Neuron::kCoefficients];
  // A whole line: for a scalar, GCC would add a version of the loop for 0, whose result does not stay in a register.
  alignas(64) C attached[kLine<C>];

  inline __attribute__((always_inline)) LineConstants(const NeuronBackward<Neuron>& a,
                                                      const Coefficients<Neuron, C, Uniform>& coefficients)
      : alpha(static_cast<C>(a.alpha)) {
    for (C& value : attached) value = a.detach_reset ? C(0) : C(1);
    coefficients.load(0, shared);
  }
};

// Gradient of one step of a line, starting at neuron i of the block. grad: dL/d(states after the step) on entry,
// dL/d(states before it) on return. S is `count` if the surrogate is only known at run time: then `slopes` are used.
template <class Neuron, class C, Reset R, Surrogate S, bool Uniform, int64_t Width, int64_t TapeWidth,
          int64_t ParamsWidth>
inline __attribute__((always_inline)) void line_backward(const C (*tape)[TapeWidth], const C* grad_spikes,
                                                         const C* grad_v, const C* slopes, C (*grad)[Width], C* grad_x,
                                                         C (*grad_params)[ParamsWidth],
                                                         const Coefficients<Neuron, C, Uniform>& coefficients,
                                                         const LineConstants<Neuron, C, Uniform>& constants,
                                                         int64_t i) {
  SNNFAST_LINE_SIMD
  for (int64_t l = 0; l < kLine<C>; l++) {
    C c[Neuron::kCoefficients], read[Neuron::template kTape<Uniform>], g[Neuron::kStates], gp[Neuron::kParams];
    coefficients.load(i + l, constants.shared, c);
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::template kTape<Uniform>; k++) read[k] = tape[k][l];
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) g[k] = grad[k][l];
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kParams; k++) gp[k] = shared_parameter<Neuron, Uniform>(k) ? C(0) : grad_params[k][l];
    g[0] += grad_v[l];
    C slope = C(0);
    if constexpr (S == Surrogate::count)
      slope = slopes[l];
    else if constexpr (R != Reset::none && Neuron::kTakesSlope)
      slope = surrogate_derivative<S, C>(Neuron::template margin<R, Uniform>(read, c), constants.alpha);
    grad_x[l] =
        Neuron::template step_backward<R, Uniform>(read, c, grad_spikes[l], slope, constants.attached[l], g, gp);
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) grad[k][l] = g[k];
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kParams; k++)
      if (!shared_parameter<Neuron, Uniform>(k)) grad_params[k][l] = gp[k];
  }
}

// Row of an absent gradient.
template <class C>
alignas(64) constexpr C kZeros[kBlock] = {};

// Not inline: rarely called, and the loop around it would be slower.
template <class C>
__attribute__((noinline)) void add_row(C* sums, const C* row, int64_t m) {
  SNNFAST_SIMD
  for (int64_t i = 0; i < m; i++) sums[i] += row[i];
}

// Writes the mean of x's gradient over the steps, from its sum.
template <class Neuron, class C>
__attribute__((noinline)) void write_mean(const NeuronBackward<Neuron>& a, C* sum, int64_t n0, int64_t m) {
  const C share = C(1) / static_cast<C>(a.T);
  SNNFAST_SIMD
  for (int64_t i = 0; i < m; i++) sum[i] *= share;
  flush_row(a.grad_x, a.x.dtype, n0, m, false, sum);
}

}  // namespace
}  // namespace snnfast::cpu
