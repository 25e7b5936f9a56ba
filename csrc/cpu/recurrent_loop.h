// Loop over time of recurrent neurons (core/recurrent.h) on the CPU: a group of samples runs through all time steps
// before the next group, one piece of a sample at a time. Independent of the neuron, so compiled once. Here are dense
// connections; sparse_connections.h has sparse ones.
#pragma once
#include "cpu/recurrent_neuron.h"
#include "cpu/recurrent_sums.h"

namespace snnfast::cpu {
namespace {

using SNNFAST_ISA::RecurrentBackwardScan;
using SNNFAST_ISA::RecurrentForwardScan;
using SNNFAST_ISA::RecurrentNeuron;
using SNNFAST_ISA::RecurrentScan;

// Rows in and out. Not inline: compared with the sums of spikes, a call costs nothing.
template <class C>
__attribute__((noinline)) const C* read_samples(const Rows& rows, int64_t t, int64_t n0, int64_t m, C* buffer) {
  return read_row<C>(rows, t, n0, m, buffer);
}
template <class C>
__attribute__((noinline)) void write_row(void* data, Dtype dtype, int64_t offset, int64_t m, bool streaming,
                                         const C* row) {
  flush_row(data, dtype, offset, m, streaming, row);
}

// Rounds spikes to the dtype of x: 16 bits do not hold every count of several spikes a step.
template <class T, class C>
void rounded_to(int64_t m, C* spikes) {
  for (int64_t i = 0; i < m; i++) spikes[i] = load_as<C>(Store<T>::from(spikes[i]));
}
template <class C>
__attribute__((noinline)) void as_stored(Dtype dtype, int64_t m, C* spikes) {
  if (dtype == Dtype::bf16) rounded_to<BFloat16>(m, spikes);
  if (dtype == Dtype::f16) rounded_to<Half>(m, spikes);
}

// A group of samples, and the memory of its neurons. Their connections, dense (Group) or sparse (SparseGroup), have
// the functions that forward_group and backward_group call.
template <class C>
struct Samples {
  const RecurrentScan& a;
  const RecurrentNeuron<C>& neuron;
  const Recurrence& r;
  const SamplesMemory<C>& memory;
  // group: number of samples that memory has room for; width: of a row of spikes, wide: of a row of all inputs. The
  // forward pass of a part is about the neurons [low, high) of a sample, the pieces [first_piece, last_piece).
  const int64_t group, first, samples, H, width, wide, pieces, first_piece, last_piece, low, high;

  Samples(const RecurrentScan& scan, const RecurrentNeuron<C>& maths, const SamplesMemory<C>& scratch, int64_t room,
          int64_t first_sample, int64_t part = 0, int64_t parts = 1)
      : a(scan),
        neuron(maths),
        r(scan.recurrence),
        memory(scratch),
        group(room),
        first(first_sample),
        samples(min(scan.N / r.H - first, group)),
        H(r.H),
        width(padded(r.H)),
        wide(padded(r.inputs * r.H)),
        pieces((r.H + kBlock - 1) / kBlock),
        first_piece(part * pieces / parts),
        last_piece((part + 1) * pieces / parts),
        low(first_piece * kBlock),
        high(min(last_piece * kBlock, r.H)) {
    clear(memory.current, group * wide);
    clear(memory.spikes, group * width);
    clear(memory.row, group * width);
    each_piece([&](int64_t g, int64_t p, int64_t n0, int64_t m) {
      if (!a.uniform || (g == 0 && p == first_piece)) neuron.coefficients(neuron.scan, n0, m, coefficients(g, p));
    });
  }

  static void clear(C* row, int64_t n) {
    for (int64_t i = 0; i < n; i++) row[i] = C(0);
  }

  // Calls visit(sample in the group, piece, first neuron, number of neurons).
  template <class Visit>
  inline void each_piece(const Visit& visit) const {
    for (int64_t g = 0; g < samples; g++)
      for (int64_t p = first_piece; p < last_piece; p++)
        visit(g, p, (first + g) * H + p * kBlock, min(H - p * kBlock, kBlock));
  }

  using Block = C (*)[kBlock];
  Block piece(int64_t g, int64_t p, int row) const {
    return reinterpret_cast<Block>(memory.pieces + ((g * pieces + p) * neuron.piece_rows + row) * kBlock);
  }
  Block state(int64_t g, int64_t p) const { return piece(g, p, 0); }
  Block grad(int64_t g, int64_t p) const { return piece(g, p, neuron.states); }
  Block grad_params(int64_t g, int64_t p) const { return piece(g, p, 2 * neuron.states); }
  // If all neurons have the same, those of the first piece, which stay in the cache.
  Block coefficients(int64_t g, int64_t p) const {
    const int row = 2 * neuron.states + neuron.params;
    return a.uniform ? piece(0, first_piece, row) : piece(g, p, row);
  }
  // Rows of the inputs, or of their gradients, after the first: from a row of all inputs of a sample to a piece.
  void more_inputs(const C* inputs, int64_t g, int64_t p, int64_t m) const {
    for (int64_t k = 1; k < r.inputs; k++) copy(state(g, p)[neuron.first_input + k - 1], inputs + k * H, m);
  }
  void more_gradients(int64_t g, int64_t p, int64_t m, C* inputs) const {
    for (int64_t k = 1; k < r.inputs; k++) copy(inputs + k * H, grad(g, p)[neuron.first_input + k - 1], m);
  }
  Block tape(int64_t j, int64_t g, int64_t p) const {
    return reinterpret_cast<Block>(memory.tape + ((j * group + g) * pieces + p) * neuron.tape_rows * kBlock);
  }

  // Whether to return before step t.
  bool interrupted(int64_t t) const { return t % 8 == 0 && r.interrupt(); }

  // The spikes of sample g at step t from neuron `low` on, before the first step from the past; null where there are
  // none.
  const C* spikes_at(const Rows& rows, int64_t t, int64_t g, C* buffers) const {
    const int64_t n0 = (first + g) * H + low, m = high - low;
    C* buffer = buffers + g * width + low;
    if (t >= 0) return read_samples<C>(rows, t, n0, m, buffer);
    return t + r.K >= 0 ? read_samples<C>(r.past, t + r.K, n0, m, buffer) : nullptr;
  }
};

template <class C>
struct Group : Samples<C> {
  using Samples<C>::a, Samples<C>::r, Samples<C>::group, Samples<C>::first, Samples<C>::samples, Samples<C>::H;
  using Samples<C>::width, Samples<C>::clear, Samples<C>::spikes_at;
  const RecurrentMemory<C>& memory;
  const int64_t mask;
  int64_t known = 0;    // step of list 0
  int64_t segment = 0;  // first step of the segment

  Group(const RecurrentScan& scan, const RecurrentNeuron<C>& maths, const RecurrentMemory<C>& scratch, int64_t number)
      : Samples<C>(scan, maths, scratch, scratch.group, number * scratch.group), memory(scratch), mask(r.ring - 1) {
    for (int64_t j = 0; j < (r.delay ? H : 0); j++)
      memory.lags[j] = lag_of(static_cast<const C*>(r.delay)[j], a.T + r.K);
  }

  // ---- the functions that the loops call

  void begin_forward() const { set_out(Rows{}, 0); }
  // Before the steps [t0, t0 + steps) are computed again, after those behind them.
  void begin_segment(const Rows& rows, int64_t t0, int64_t steps) {
    segment = t0;
    if (!r.delay) {
      known = t0;
    } else if (t0 < known) {
      known = t0 + steps > memory.lists ? t0 + steps - memory.lists : 0;
      arrive(rows, known, t0 + steps);
    }
  }
  void begin_step(int64_t) const {}
  // The input of sample g at step t. The spikes of the step before are in memory.spikes, or in `rows` if t is the first
  // step. `again`: of a segment, else the forward pass.
  const C* input(const Rows& rows, int64_t t, int64_t t0, int64_t g, bool again) const {
    const int64_t j = again ? t - known : 0;
    if (!again || !r.delay) arrive(t > t0 ? memory.spikes + g * width : spikes_at(rows, t - 1, g, memory.row), t, j, g);
    return charge(t, j, g);
  }
  void end_step(int64_t) const {}
  void begin_backward() {
    clear(memory.returned, (r.delay ? r.ring + 16 : r.ring) * group * width);
    clear(memory.grad_delay, group * width);
    known = a.T;
  }
  void begin_step_backward(int64_t, C*) const {}
  // Adds to the gradient of the weights. For all steps of a segment together: it is read and written once a segment,
  // not at every spike.
  void end_segment(int64_t steps, C* grad_weight) const {
    sort_by_neuron(steps);
    add_sorted(memory.inputs_back, width, H, memory.first, memory.arrived_in, memory.arrived, grad_weight);
  }
  void end_backward(const RecurrentBackwardScan& scan) const {
    for (int64_t g = 0; g < (scan.grad_delay ? samples : 0); g++)
      copy(static_cast<C*>(scan.grad_delay) + (first + g) * H, memory.grad_delay + g * width, H);
  }

  // ---- arriving spikes

  C* ring(C* rows, int64_t t, int64_t g) const { return rows + ((t & mask) * group + g) * width; }
  int64_t list(int64_t j, int64_t g) const { return (j * group + g) * (width + 16); }

  // Input current of a sample: x[t], then the arriving spikes of list j.
  C* charge(int64_t t, int64_t j, int64_t g) const {
    C* current = memory.current + g * width;
    const C* x = read_samples<C>(a.x, t, (first + g) * H, H, current);
    if (x != current) copy(current, x, H);
    add_events(current, static_cast<const C*>(r.to_post), width, memory.index + list(j, g), memory.value + list(j, g),
               memory.count[j * group + g]);
    return current;
  }

  // Lists the events of a row as list j.
  int32_t list_row(int64_t j, int64_t g, const C* row) const {
    return memory.count[j * group + g] = list_events(row, H, memory.index + list(j, g), memory.value + list(j, g));
  }

  // Sorts the spikes that arrive in the segment by presynaptic neuron; those of a neuron from the last step on.
  void sort_by_neuron(int64_t steps) const {
    const auto each_list = [&](const auto& visit) {
      for (int64_t t = segment + steps - 1; t >= segment; t--)
        for (int64_t g = 0; g < samples; g++)
          for (int64_t e = list(t - known, g), end = e + memory.count[(t - known) * group + g]; e < end; e++)
            visit(memory.index[e], (t - segment) * group + g, memory.value[e]);
    };
    // Counts in next[j + 1], then starts; each start moves on to the end, which is the start of the next neuron.
    int32_t* next = memory.first + 1;
    for (int64_t j = -1; j <= H; j++) next[j] = 0;
    each_list([&](int32_t j, int64_t, C) { next[j + 1]++; });
    for (int64_t j = 0; j < H; j++) next[j + 1] += next[j];
    each_list([&](int32_t j, int64_t row, C value) {
      const int32_t at = next[j]++;
      memory.arrived_in[at] = static_cast<int32_t>(row);
      memory.arrived[at] = value;
    });
  }

  // With delays: adds the spikes of step t to the rows of the steps at which they arrive.
  void send(int64_t t, int64_t g, const C* spikes) const {
    const int32_t count = list_row(memory.lists, g, spikes);
    const int64_t at = list(memory.lists, g);
    for (int32_t e = 0; e < count; e++) {
      const int32_t j = memory.index[at + e];
      const Lag<C>& lag = memory.lags[j];
      ring(memory.under_way, t + 1 + lag.steps, g)[j] += lag.early * memory.value[at + e];
      ring(memory.under_way, t + 2 + lag.steps, g)[j] += lag.late * memory.value[at + e];
    }
  }

  // Before the first arrive(), for step t: sends the earlier spikes that have not arrived yet.
  void set_out(const Rows& rows, int64_t t) const {
    if (!r.delay) return;
    clear(memory.under_way, r.ring * group * width);
    for (int64_t g = 0; g < samples; g++)
      for (int64_t sent = max(t - r.ring, -r.K); sent < t - 1; sent++) {
        if (sent + kAhead >= 0 && sent + kAhead < t) prefetch_row(rows, sent + kAhead, (first + g) * H, H);
        send(sent, g, spikes_at(rows, sent, g, memory.row));
        clear(ring(memory.under_way, sent + 1, g), width);
      }
  }

  // Makes list j: the spikes that arrive at sample g at step t, the step after that of the last call. before: spikes of
  // the step before.
  void arrive(const C* before, int64_t t, int64_t j, int64_t g) const {
    if (!r.delay) {
      if (before)
        list_row(j, g, before);
      else
        memory.count[j * group + g] = 0;
      return;
    }
    if (before) send(t - 1, g, before);
    C* row = ring(memory.under_way, t, g);
    list_row(j, g, row);
    clear(row, width);
  }

  // With delays: makes lists 0, 1, ... of the spikes that arrive at the steps [begin, end).
  void arrive(const Rows& rows, int64_t begin, int64_t end) const {
    set_out(rows, begin);
    for (int64_t t = begin; t < end; t++)
      for (int64_t g = 0; g < samples; g++) {
        if (t + kAhead < end) prefetch_row(rows, t + kAhead, (first + g) * H, H);
        arrive(spikes_at(rows, t - 1, g, memory.row), t, t - begin, g);
      }
  }

  // dL/d(spikes of step t) through their arrivals, in `row`. `returned` holds dL/d(arriving spikes), 0 after the last
  // step. Adds to the gradient of the delays if `spikes` is not null.
  const C* returned(int64_t t, int64_t g, const C* spikes) const {
    C* row = memory.row + g * width;
    if (r.delay)
      t < -1 ? returned_late<true>(t, g, spikes, row) : returned_late<false>(t, g, spikes, row);
    else if (t >= -1)
      return ring(memory.returned, t + 1, g);
    else
      clear(row, H);
    return row;
  }

  // Computes dL/d(arriving spikes of step t) from dL/d(input of the step), which `current` holds.
  void backpropagate(int64_t t) const {
    const C* to_pre = static_cast<const C*>(r.to_pre);
    copy(memory.inputs_back + (t - segment) * group * width, memory.current, samples * width);
    if (!r.delay) return dense(memory.current, to_pre, H, width, samples, ring(memory.returned, t, 0));
    dense(memory.current, to_pre, H, width, samples, memory.row);
    const int64_t apart = r.ring + 16, at = t & mask;
    for (int64_t g = 0; g < samples; g++) {
      const C* row = memory.row + g * width;
      C* to = memory.returned + g * width * apart + at;
      for (int64_t j = 0; j < H; j++) to[j * apart] = row[j];
      for (int64_t j = 0; j < (at == 0 ? H : 0); j++) to[j * apart + r.ring] = row[j];
    }
  }

 private:
  // Neighbouring neurons read `returned` at different steps, so the steps of a neuron are contiguous there, with the
  // first repeated after the last: the next reads are in the same cache line.
  template <bool Before>
  void returned_late(int64_t t, int64_t g, const C* spikes, C* row) const {
    const int64_t apart = r.ring + 16, count = H, wrap = mask;
    const Lag<C>* lags = memory.lags;
    const C* from = memory.returned + g * width * apart;
    C* sum = memory.grad_delay + g * width;
    for (int64_t j = 0; j < count; j++, from += apart) {
      const Lag<C> lag = lags[j];
      const int64_t arrives = t + 1 + lag.steps;
      const C* at = from + (arrives & wrap);
      const C early = Before && arrives < 0 ? C(0) : at[0], late = Before && arrives < -1 ? C(0) : at[1];
      row[j] = lag.early * early + lag.late * late;
      if (spikes && lag.moves) sum[j] += spikes[j] * (late - early);
    }
  }
};

template <class C, class Connected>
void forward_begin(const RecurrentNeuron<C>& neuron, Connected&& group) {
  group.each_piece([&](int64_t g, int64_t p, int64_t n0, int64_t m) {
    neuron.initial_state(neuron.scan, group.coefficients(g, p), n0, m, group.state(g, p));
  });
  group.begin_forward();
}

// The steps [begin, end) of the forward pass.
template <class C, class Connected>
void forward_steps(const RecurrentForwardScan& a, const RecurrentNeuron<C>& neuron, Connected&& group, int64_t begin,
                   int64_t end) {
  const auto& memory = group.memory;
  const int64_t H = group.H, low = group.low, size = group.high - low;
  const bool streaming = streams<C>(a.T, a.N);
  const Rows none{};
  for (int64_t t = begin; t < end; t++) {
    if (group.interrupted(t)) return;
    if (a.checkpoints_out && t > 0 && t % a.checkpoint_every == 0)
      group.each_piece([&](int64_t g, int64_t p, int64_t n0, int64_t m) {
        for (int k = 0; k < neuron.states; k++)
          copy(static_cast<C*>(a.checkpoints_out) + ((t / a.checkpoint_every - 1) * neuron.states + k) * a.N + n0,
               group.state(g, p)[k], m);
      });
    group.begin_step(t);
    for (int64_t g = 0; g < group.samples; g++) {
      C* spikes = memory.spikes + g * group.width;
      const int64_t n0 = (group.first + g) * H;
      if (t + kAhead < a.T) prefetch_row(a.x, t + kAhead, n0 + low, size);
      const C* current = group.input(none, t, 0, g, false);
      for (int64_t p = group.first_piece; p < group.last_piece; p++) {
        const int64_t h0 = p * kBlock, m = min(H - h0, kBlock);
        group.more_inputs(current + h0, g, p, m);
        neuron.step(current + h0, group.state(g, p), spikes + h0, nullptr, group.coefficients(g, p), m);
        if (a.v_seq) copy(static_cast<C*>(a.v_seq) + t * a.N + n0 + h0, group.state(g, p)[0], m);
      }
      if (a.spikes) write_row(a.spikes, a.x.dtype, t * a.N + n0 + low, size, streaming, spikes + low);
      as_stored(a.x.dtype, size, spikes + low);
    }
    group.end_step(t);
  }
  if (end == a.T)
    group.each_piece([&](int64_t g, int64_t p, int64_t n0, int64_t m) {
      for (int k = 0; k < neuron.states; k++)
        if (a.state_out[k]) copy(static_cast<C*>(a.state_out[k]) + n0, group.state(g, p)[k], m);
    });
}

template <class C, class Connected>
void forward_group(const RecurrentForwardScan& a, const RecurrentNeuron<C>& neuron, Connected&& group) {
  forward_begin(neuron, group);
  forward_steps(a, neuron, group, 0, a.T);
}

// Adds the gradient of this group to grad_weight, the sum of its part.
template <class C, class Connected>
void backward_group(const RecurrentBackwardScan& a, const RecurrentNeuron<C>& neuron, Connected&& group,
                    C* grad_weight) {
  const auto& memory = group.memory;
  const Recurrence& r = a.recurrence;
  const int64_t H = group.H, width = group.width, K = a.checkpoint_every;
  const bool streaming = streams<C>(a.T, a.N);
  group.begin_backward();
  group.each_piece([&](int64_t g, int64_t p, int64_t n0, int64_t m) {
    for (int k = 0; k < neuron.states; k++) {
      const C* in = static_cast<const C*>(a.grad_state_out[k]);
      for (int64_t i = 0; i < m; i++) group.grad(g, p)[k][i] = in ? in[n0 + i] : C(0);
    }
    for (int k = 0; k < neuron.params; k++) group.clear(group.grad_params(g, p)[k], m);
  });

  alignas(64) C v_buffer[kBlock], slope[kBlock];
  for (int64_t segment = a.T ? (a.T - 1) / K : -1; segment >= 0; segment--) {
    const int64_t t0 = segment * K, steps = min(a.T - t0, K);
    group.each_piece([&](int64_t g, int64_t p, int64_t n0, int64_t m) {
      if (segment == 0)
        neuron.initial_state(neuron.scan, group.coefficients(g, p), n0, m, group.state(g, p));
      else
        for (int k = 0; k < neuron.states; k++)
          copy(group.state(g, p)[k],
               static_cast<const C*>(a.checkpoints) + ((segment - 1) * neuron.states + k) * a.N + n0, m);
    });
    group.begin_segment(a.spikes, t0, steps);
    for (int64_t j = 0; j < steps; j++) {
      if (group.interrupted(t0 + j)) return;
      group.begin_step(t0 + j);
      for (int64_t g = 0; g < group.samples; g++) {
        if (j + kAhead < steps) prefetch_row(a.x, t0 + j + kAhead, (group.first + g) * H, H);
        C* spikes = memory.spikes + g * width;  // recomputed: reading them takes longer
        const C* current = group.input(a.spikes, t0 + j, t0, g, true);
        for (int64_t p = 0; p < group.pieces; p++) {
          const int64_t h0 = p * kBlock, m = min(H - h0, kBlock);
          group.more_inputs(current + h0, g, p, m);
          neuron.step(current + h0, group.state(g, p), spikes + h0, group.tape(j, g, p), group.coefficients(g, p), m);
        }
        as_stored(a.x.dtype, H, spikes);
      }
      group.end_step(t0 + j);
    }
    for (int64_t j = steps - 1; j >= 0; j--) {
      const int64_t t = t0 + j;
      if (group.interrupted(t)) return;
      group.begin_step_backward(t, grad_weight);
      for (int64_t g = 0; g < group.samples; g++) {
        const int64_t n0 = (group.first + g) * H;
        if (t > 0) prefetch_row(a.grad_spikes, t - 1, n0, H);
        const C* through =
            group.returned(t, g, a.grad_delay ? group.spikes_at(a.spikes, t, g, memory.current) : nullptr);
        C* grad_spikes = memory.spikes + g * width;
        if (a.grad_spikes.data) {
          const C* incoming = read_samples<C>(a.grad_spikes, t, n0, H, grad_spikes);
          for (int64_t i = 0; i < H; i++) grad_spikes[i] = incoming[i] + through[i];
        } else {
          copy(grad_spikes, through, H);
        }
        C* grad_x = memory.current + g * group.wide;
        for (int64_t p = 0; p < group.pieces; p++) {
          const int64_t h0 = p * kBlock, m = min(H - h0, kBlock);
          const C* grad_v = v_buffer;
          if (a.grad_v_seq.data)
            grad_v = read_samples<C>(a.grad_v_seq, t, n0 + h0, m, v_buffer);
          else
            group.clear(v_buffer, m);
          if (neuron.margins) {
            neuron.margins(group.tape(j, g, p), group.coefficients(g, p), slope, m);
            SNNFAST_ISA::slopes(a.surrogate, slope, static_cast<C>(a.alpha), m);
          }
          neuron.step_backward(neuron.scan, group.tape(j, g, p), grad_spikes + h0, grad_v, slope, group.grad(g, p),
                               grad_x + h0, group.grad_params(g, p), group.coefficients(g, p), m);
          group.more_gradients(g, p, m, grad_x + h0);
        }
        write_row(a.grad_x, a.x.dtype, t * a.N + n0, H, streaming, grad_x);
        for (int64_t k = 1; k < r.inputs; k++)
          write_row(a.more_grad_inputs[neuron.first_input + k - 1], a.x.dtype, t * a.N + n0, H, streaming,
                    grad_x + k * H);
      }
      group.backpropagate(t);
    }
    group.end_segment(steps, grad_weight);
  }
  for (int64_t t = -1; t >= -r.K; t--) {
    group.begin_step_backward(t, grad_weight);
    for (int64_t g = 0; g < group.samples; g++) {
      const C* spikes = a.grad_delay ? group.spikes_at(a.spikes, t, g, memory.current) : nullptr;
      write_row(a.grad_past, a.x.dtype, (t + r.K) * a.N + (group.first + g) * H, H, false,
                group.returned(t, g, spikes));
    }
  }
  group.end_backward(a);
  group.each_piece([&](int64_t g, int64_t p, int64_t n0, int64_t m) {
    const auto grad = group.grad(g, p), grad_params = group.grad_params(g, p);
    for (int k = 0; k < neuron.states; k++) {
      if (a.grad_state_in[k]) copy(static_cast<C*>(a.grad_state_in[k]) + n0, grad[k], m);
      if (!a.state_in[k]) neuron.rest_backward(k, grad[k], grad_params, m);
    }
    for (int k = 0; k < neuron.params; k++)
      if (a.grad_param[k]) copy(static_cast<C*>(a.grad_param[k]) + n0, grad_params[k], m);
  });
}

}  // namespace
}  // namespace snnfast::cpu
