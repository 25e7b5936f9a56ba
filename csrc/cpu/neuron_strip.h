// Backward pass of neurons whose parameters are all numbers. A strip of lines goes through all steps between two
// checkpoints with its state in registers, then back with the gradient of the state: loading and storing them at every
// step took a third of the time. The loops over the steps contain no call, since no register survives one: rows in
// another dtype or layout are converted before or after.
#pragma once
#include "cpu/lanes.h"
#include "cpu/neuron_lines.h"

namespace snnfast::cpu {
namespace {

template <class Neuron, class C>
constexpr bool kInStrips =
    kNumberKernel<Neuron> && kSurrogateKernel<C, true> && kAllShared<Neuron, true> && !kHasMore<Neuron>;

// Processed together, since each line waits for its last step; with AVX-512 they take 8 of 32 registers per state.
constexpr int kStripLines = 8;
template <class C>
constexpr int64_t kStrip = kStripLines * kLine<C>;

// A line as vectors: an array would not stay in registers from one step to the next.
template <class C>
struct RegisterLine {
  static constexpr int kLanes = Vectors<C>::kLanes, kParts = 64 / kVectorBytes;
  typename Vectors<C>::Type part[kParts];

  inline __attribute__((always_inline)) void read(const C* line) {
    SNNFAST_UNROLL
    for (int p = 0; p < kParts; p++) part[p] = vector_at(line + p * kLanes);
  }
  inline __attribute__((always_inline)) void write(C* line) const {
    SNNFAST_UNROLL
    for (int p = 0; p < kParts; p++) vector_at(line + p * kLanes) = part[p];
  }
};

// The states of a strip, or their gradients.
template <class Neuron, class C>
struct RegisterStates {
  RegisterLine<C> line[kStripLines][Neuron::kStates];

  inline __attribute__((always_inline)) void read(int g, const C* rows, int64_t stride) {
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) line[g][k].read(rows + k * stride);
  }
  inline __attribute__((always_inline)) void write(int g, C* rows, int64_t stride) const {
    SNNFAST_UNROLL
    for (int k = 0; k < Neuron::kStates; k++) line[g][k].write(rows + k * stride);
  }
  inline __attribute__((always_inline)) void read_all(const C (*rows)[kStrip<C>]) {
    SNNFAST_UNROLL
    for (int g = 0; g < kStripLines; g++) read(g, rows[0] + g * kLine<C>, kStrip<C>);
  }
  inline __attribute__((always_inline)) void write_all(C (*rows)[kStrip<C>]) const {
    SNNFAST_UNROLL
    for (int g = 0; g < kStripLines; g++) write(g, rows[0] + g * kLine<C>, kStrip<C>);
  }
};

template <class Neuron, class C>
using StripTape = C (*)[Neuron::template kTape<true>][kStrip<C>];  // one tape per step of a segment

// Rows of a strip of a sequence, in C.
template <class C>
struct StripRows {
  C* data;
  int64_t stride;

  inline C* at(int64_t j) const { return data + j * stride; }
};

template <class C>
struct StripGradients {
  StripRows<const C> spikes, v;
  StripRows<C> x;  // may alias the rows of the spikes
  bool past;       // x bypasses the caches
};

// Fills the tape of some steps. x may alias the first rows of the tape.
template <class Neuron, class C, Reset R>
__attribute__((noinline)) void record_strip(StripRows<const C> x, int64_t steps,
                                            const Coefficients<Neuron, C, true>& coefficients,
                                            const C (*before)[kStrip<C>], StripTape<Neuron, C> tape, RowsAhead& ahead) {
  C shared[Neuron::kCoefficients];
  coefficients.load(0, shared);
  RegisterStates<Neuron, C> registers;
  registers.read_all(before);
  for (int64_t j = 0; j < steps; j++) {
    const C* const row = x.at(j);
    ahead.fetch_lines<kStripLines>();
    SNNFAST_UNROLL
    for (int g = 0; g < kStripLines; g++) {
      const int64_t i = g * kLine<C>;
      alignas(64) C spikes[kLine<C>], state[Neuron::kStates][kLine<C>];
      registers.write(g, state[0], kLine<C>);
      step_line<Neuron, C, R, true, Record::tape>(row + i, state, from(tape[j], i), spikes, coefficients, shared, i);
      registers.read(g, state[0], kLine<C>);
    }
  }
}

// Gradient of these steps. grad: dL/d(states after them) on entry, dL/d(states before them) on return.
template <class Neuron, class C, Reset R, Surrogate S>
__attribute__((noinline)) void strip_backward(const NeuronBackward<Neuron>& a,
                                              const Coefficients<Neuron, C, true>& coefficients,
                                              StripTape<Neuron, C> tape, int64_t steps, const StripGradients<C>& rows,
                                              C (*grad)[kStrip<C>], RowsAhead& ahead) {
  const LineConstants<Neuron, C, true> constants(a, coefficients);
  RegisterStates<Neuron, C> registers;
  registers.read_all(grad);
  C no_params[Neuron::kParams][1];
  for (int64_t j = steps - 1; j >= 0; j--) {
    const C *const spikes = rows.spikes.at(j), *const v = rows.v.at(j);
    C* const out = rows.x.at(j);
    RegisterLine<C> result[kStripLines];
    ahead.fetch_lines<kStripLines>();
    SNNFAST_UNROLL
    for (int g = 0; g < kStripLines; g++) {
      const int64_t i = g * kLine<C>;
      alignas(64) C line[kLine<C>], state[Neuron::kStates][kLine<C>];
      registers.write(g, state[0], kLine<C>);
      line_backward<Neuron, C, R, S, true>(from(tape[j], i), spikes + i, v + i, nullptr, state, line, no_params,
                                           coefficients, constants, i);
      registers.read(g, state[0], kLine<C>);
      result[g].read(line);
    }
    // One branch per row: one per line costs 4 % of the pass.
    if (rows.past) {
      SNNFAST_UNROLL
      for (int g = 0; g < kStripLines; g++) {
        alignas(64) C line[kLine<C>];
        result[g].write(line);
        stream_whole(out + g * kLine<C>, line);
      }
    } else {
      SNNFAST_UNROLL
      for (int g = 0; g < kStripLines; g++) result[g].write(out + g * kLine<C>);
    }
  }
  registers.write_all(grad);
}

template <class Neuron, class C>
using StripBackward = decltype(&strip_backward<Neuron, C, Reset::none, Surrogate::straight_through>);

// Steps [t0, t0 + steps) of neurons [n0, n0 + m).
struct StripPart {
  int64_t t0, steps, n0, m;
};

// Rows of a part: in place if dtype and layout allow, else in `buffer`.
template <class C>
StripRows<const C> strip_rows(const Rows& rows, const StripPart& part, C* buffer, int64_t stride) {
  const auto [t0, steps, n0, m] = part;
  const bool whole = m == kStrip<C> && rows.inner_stride;
  if (whole && rows.dtype == native<C>()) return {row_at<C>(rows, t0, n0), rows.time_stride};
  if (whole && rows.dtype == Dtype::bf16) {  // with a size known at compile time it takes a third of the time
    for (int64_t j = 0; j < steps; j++) convert_in(row_at<BFloat16>(rows, t0 + j, n0), kStrip<C>, buffer + j * stride);
    return {buffer, stride};
  }
  for (int64_t j = 0; j < steps; j++) {
    C* const to = buffer + j * stride;
    const C* const row = read_row(rows, t0 + j, n0, m, to);
    if (row != to) copy(to, row, m);
    for (int64_t i = m; i < kStrip<C>; i++) to[i] = C(0);
  }
  return {buffer, stride};
}

// A row of m numbers, or of `value` if there are none. The remaining lanes are computed, too, but not used.
template <class C>
inline void set_row(C* row, const C* numbers, C value, int64_t m) {
  for (int64_t i = 0; i < kStrip<C>; i++) row[i] = value;
  if (numbers) copy(row, numbers, m);
}

// Arguments that all strips of a call share.
template <class Neuron, class C>
struct StripWork {
  const Coefficients<Neuron, C, true> coefficients;
  StripBackward<Neuron, C> run;
  StripTape<Neuron, C> tape;
  C *buffer, *v_buffer;
  RowsAhead x_ahead, grad_ahead;
  AcrossLines<C> across;
  C rest[Neuron::kStates];
  alignas(64) C state[Neuron::kStates][kStrip<C>], grad[Neuron::kStates][kStrip<C>], sum[kStrip<C>];

  StripWork(const NeuronBackward<Neuron>& a, StripBackward<Neuron, C> run, int64_t begin, int64_t end, void* scratch)
      : coefficients(a, begin, min(end - begin, kStrip<C>)),
        run(run),
        tape(static_cast<StripTape<Neuron, C>>(scratch)),
        buffer(tape[min(a.T, a.checkpoint_every)][0]),
        v_buffer(buffer + min(a.T, a.checkpoint_every) * kStrip<C>),
        x_ahead(a.x, a.T, a.checkpoint_every, begin, end, kStrip<C>, Order::forward, beyond_caches<C>(a.T, a.N)),
        grad_ahead(a.grad_spikes, a.T, a.checkpoint_every, begin, end, kStrip<C>, Order::backward,
                   beyond_caches<C>(a.T, a.N)),
        across(begin, end) {
    static_assert(sizeof(C) * kStrip<C> * (Neuron::template kTape<true> + 2) <=
                  sizeof(double) * kNeuronTapeRows<Neuron> * kNeuronBlock);  // neuron_tape_bytes
    C c[Neuron::kCoefficients];
    coefficients.load(0, c);
    for (int k = 0; k < Neuron::kStates; k++) rest[k] = Neuron::rest(k, c);
  }
};

// Writes x's gradient from a buffer to its tensor.
template <class Neuron, class C>
void strip_done(const NeuronBackward<Neuron>& a, const StripPart& part, const StripRows<C>& x,
                StripWork<Neuron, C>& work) {
  const int64_t offset = part.t0 * a.N + part.n0;
  const bool streaming = streams<C>(a.T, a.N), bf16 = part.m == kStrip<C> && a.x.dtype == Dtype::bf16,
             shifted = AcrossLines<C>::wanted(a.grad_x, a.x.dtype, a.N, streaming);
  for (int64_t j = 0; j < part.steps; j++) {
    if (a.x_repeats)
      add_row(work.sum, x.at(j), part.m);
    else if (bf16)
      convert_out(x.at(j), kStrip<C>, static_cast<BFloat16*>(a.grad_x) + offset + j * a.N);
    else if (shifted)
      work.across.write(part.t0 + j, part.n0, part.m, static_cast<C*>(a.grad_x) + offset + j * a.N, x.at(j));
    else
      flush_row(a.grad_x, a.x.dtype, offset + j * a.N, part.m, streaming, x.at(j));
  }
}

// Backward pass of a part; `work` holds the states before it.
template <class Neuron, class C, Reset R>
void strip_segment(const NeuronBackward<Neuron>& a, const StripPart& part, StripWork<Neuron, C>& work) {
  const bool streaming = streams<C>(a.T, a.N), in_place = part.m == kStrip<C> && a.x.dtype == native<C>() &&
                                                          !a.x_repeats &&
                                                          !AcrossLines<C>::wanted(a.grad_x, a.x.dtype, a.N, streaming);
  const int64_t offset = part.t0 * a.N + part.n0;
  const StripRows<const C> x = strip_rows<C>(a.x, part, work.tape[0][0], Neuron::template kTape<true> * kStrip<C>);
  record_strip<Neuron, C, R>(x, part.steps, work.coefficients, work.state, work.tape, work.x_ahead);
  StripGradients<C> rows{{kZeros<C>, 0}, {kZeros<C>, 0}, {work.buffer, kStrip<C>}, false};
  if (a.grad_spikes.data) rows.spikes = strip_rows<C>(a.grad_spikes, part, work.buffer, kStrip<C>);
  if (a.grad_v_seq.data) rows.v = strip_rows<C>(a.grad_v_seq, part, work.v_buffer, kStrip<C>);
  if (in_place) {
    rows.x = {static_cast<C*>(a.grad_x) + offset, a.N};
    rows.past = kStreamLine && streaming;
  }
  work.run(a, work.coefficients, work.tape, part.steps, rows, work.grad, work.grad_ahead);
  if (!in_place) strip_done(a, part, rows.x, work);
}

// Backward pass of neurons [n0, n0 + m) through all steps.
template <class Neuron, class C, Reset R>
void backward_strip(const NeuronBackward<Neuron>& a, int64_t n0, int64_t m, StripWork<Neuron, C>& work) {
  const auto in_strip = [&](const void* row) { return row ? static_cast<const C*>(row) + n0 : nullptr; };
  const int64_t K = a.checkpoint_every;
  for (int k = 0; k < Neuron::kStates; k++) set_row(work.grad[k], in_strip(a.grad_state_out[k]), C(0), m);
  if (a.x_repeats) set_row<C>(work.sum, nullptr, C(0), m);
  for (int64_t t0 = a.T ? (a.T - 1) / K * K : -1; t0 >= 0; t0 -= K) {
    const C* const checkpoint = static_cast<const C*>(a.checkpoints) + (t0 / K - 1) * Neuron::kStates * a.N;
    for (int k = 0; k < Neuron::kStates; k++)
      set_row(work.state[k], in_strip(t0 ? checkpoint + k * a.N : a.state_in[k]), work.rest[k], m);
    strip_segment<Neuron, C, R>(a, {t0, min(a.T - t0, K), n0, m}, work);
  }
  if (a.x_repeats) write_mean(a, work.sum, n0, m);
  for (int k = 0; k < Neuron::kStates; k++)
    if (a.grad_state_in[k]) copy(static_cast<C*>(a.grad_state_in[k]) + n0, work.grad[k], m);
}

template <class Neuron, class C, Reset R>
void backward_strips(const NeuronBackward<Neuron>& a, int64_t begin, int64_t end, void* scratch) {
  StripBackward<Neuron, C> run = &strip_backward<Neuron, C, R, Surrogate::straight_through>;
  if constexpr (R != Reset::none && Neuron::kTakesSlope)
    run = with_surrogate(a.surrogate, [](auto known) -> StripBackward<Neuron, C> {
      return &strip_backward<Neuron, C, R, decltype(known)::value>;
    });
  StripWork<Neuron, C> work(a, run, begin, end, scratch);
  for (int64_t n0 = begin; n0 < end; n0 += kStrip<C>)
    backward_strip<Neuron, C, R>(a, n0, min(end - n0, kStrip<C>), work);
}

}  // namespace
}  // namespace snnfast::cpu
