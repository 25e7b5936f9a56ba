// Sparse connections of recurrent neurons on the CPU: what Group (recurrent_loop.h) is for dense ones. The samples of a
// group are the lanes of sparse_rows.h. The spikes of a step are a list, delivered when they arrive: all additions of a
// step go to one array.
#pragma once
#include <deque>

#include "cpu/noise.h"
#include "cpu/recurrent_loop.h"
#include "cpu/sparse_rows.h"

namespace snnfast::cpu {
namespace {

template <class C>
inline void add_event(EventList& to, int64_t step, int64_t sample, int32_t neuron, C spikes) {
  if (!(spikes >= 0 && spikes < C(1 << 30) && static_cast<C>(static_cast<int32_t>(spikes)) == spikes)) {
    to.whole = false;
    return;
  }
  for (int32_t n = static_cast<int32_t>(spikes); n > 0; n--) {
    if (to.count == to.room) to.grow(to);
    int32_t* const event = to.numbers + 3 * to.count++;
    event[0] = static_cast<int32_t>(step), event[1] = static_cast<int32_t>(sample), event[2] = neuron;
  }
}

template <class C, int L, class Index>
struct SparseGroup : Samples<C> {
  using Samples<C>::a, Samples<C>::r, Samples<C>::first, Samples<C>::samples, Samples<C>::H, Samples<C>::width;
  using Samples<C>::wide, Samples<C>::neuron, Samples<C>::clear, Samples<C>::spikes_at;
  using Samples<C>::low, Samples<C>::high;
  using Vector = typename Lanes<C, L>::Type;

  const SparseMemory<C>& memory;
  const Synapses& s;
  const SparseRows<C, L, Index> synapses;
  List<Events<C, L>> sent;                // ring of the events of the last steps, a power of 2
  List<const SparseGroup*> others{this};  // parts of the neurons, whose events arrive here
  EventList* const recorded;              // the events of the forward pass; null: they are not recorded
  bool stopped = false;                   // an exchange of spikes failed

  // steps: number of steps whose events are stored besides those that are in transit
  SparseGroup(const RecurrentScan& scan, const RecurrentNeuron<C>& maths, const SparseMemory<C>& scratch,
              int64_t first_sample, int64_t steps, int64_t part = 0, int64_t parts = 1)
      : Samples<C>(scan, maths, scratch, L, first_sample, part, parts),
        memory(scratch),
        s(r.synapses),
        synapses(s, r.weight),
        recorded(r.events ? r.events + first_sample / kSparseGroup + part : nullptr) {
    size_t size = 1;
    while (size < static_cast<size_t>(s.longest() + steps)) size *= 2;
    sent.resize(size);
  }

  // ---- the functions that the loops call

  void begin_forward() { r.part.spikes ? exchange(0) : begin_segment(Rows{}, 0, 0); }
  void begin_segment(const Rows& rows, int64_t t0, int64_t) {
    for (int64_t t = max(t0 - s.longest(), -r.K); t < t0; t++) {
      for (int64_t g = 0; g < samples; g++) {
        const C* row = spikes_at(rows, t, g, memory.spikes);
        C* const spikes = memory.spikes + g * width + low;
        if (row != spikes) copy(spikes, row, high - low);
      }
      end_step(t);
    }
  }

  // Computes the inputs of step t: x, the noise, then the arriving spikes, from the shortest delay to the longest, in
  // order of their presynaptic neurons and of their synapses.
  void begin_step(int64_t t) {
    for (int64_t g = 0; g < samples; g++) {
      for (int64_t k = 0; k < r.inputs; k++) {
        C* current = memory.current + g * wide + k * H;
        const Rows& rows = k == 0 ? a.x : a.more_inputs[neuron.first_input + k - 1];
        const C* x = read_samples<C>(rows, t, (first + g) * H + low, high - low, current + low);
        if (x != current + low) copy(current + low, x, high - low);
        const int64_t target = k * r.part.senders + r.part.first;
        if (r.noise.table) add_noise(r.noise, target + low, target + high, first + g, t, current + low);
      }
    }
    C* sum = L == 1 ? memory.current : memory.by_neuron;
    if constexpr (L > 1) by_neuron<L>(memory.current, wide, sum);
    s.one_a_row ? deliver<true>(t, sum) : deliver<false>(t, sum);
    if constexpr (L > 1) by_sample<L>(sum, wide, memory.current);
  }
  const C* input(const Rows&, int64_t, int64_t, int64_t g, bool) const { return memory.current + g * wide; }

  // Lists the spikes of step t, learns from them, and records those of this call. Those of a part are replaced by those
  // of all neurons before they arrive.
  void end_step(int64_t t) {
    const C* spikes = memory.spikes;
    if constexpr (L > 1) {
      by_neuron<L>(memory.spikes, width, memory.by_neuron);
      spikes = memory.by_neuron;
    }
    Events<C, L>& list = events(t);
    list.list(spikes, low, high);
    if (const Learning& l = r.learning; l.learner)
      l.learn(l.learner, t, static_cast<int64_t>(list.count), list.index.data(), list.samples.data());
    if (recorded && t >= 0) record(t, *recorded);
    if (!r.part.spikes) return;
    record(t, *r.part.spikes);
    if ((t + 1) % r.part.window == 0 || t + 1 == a.T) exchange(t + 1);
  }
  bool interrupted(int64_t t) const { return stopped || Samples<C>::interrupted(t); }

  void begin_backward() {}
  // Computes dL/d(spikes of step t) through their arrivals, and adds to the gradient of the weights.
  void begin_step_backward(int64_t t, C* grad_weight) {
    C* back = L == 1 ? memory.row : memory.by_neuron;
    if (t < -s.longest())
      clear(back, width * L);
    else
      s.one_a_row ? gather<true>(t, back, grad_weight) : gather<false>(t, back, grad_weight);
    if constexpr (L > 1) by_sample<L>(back, width, memory.row);
  }
  const C* returned(int64_t, int64_t g, const C*) const { return memory.row + g * width; }
  void backpropagate(int64_t t) const {
    C* inputs = inputs_back(t);
    if constexpr (L > 1)
      by_neuron<L>(memory.current, wide, inputs);
    else
      copy(inputs, memory.current, wide);
  }
  void end_segment(int64_t, C*) const {}
  void end_backward(const RecurrentBackwardScan&) const {}

 private:
  // A row of synapses, and the spikes that arrive through it: values of L samples, and bits of those that spiked.
  struct Arrival {
    SparseRow<C, L, Index> row;
    const C* value;
    uint16_t samples;
  };
  List<Arrival> arrivals;

  Events<C, L>& events(int64_t t) { return sent[static_cast<size_t>(t) & (sent.size() - 1)]; }
  const Events<C, L>& events(int64_t t) const { return sent[static_cast<size_t>(t) & (sent.size() - 1)]; }
  C* inputs_back(int64_t t) const { return memory.inputs_back + (t & (memory.ring - 1)) * wide * L; }

  // Exchanges the spikes since the last exchange; at step t = 0 receives those before the first step.
  void exchange(int64_t t) {
    const Part& part = r.part;
    EventList& spikes = *part.spikes;
    const int64_t begin = t == 0 ? -s.longest() : (t - 1) / part.window * part.window;
    stopped = !spikes.whole || !part.exchange(part.key, first, samples, t, spikes);
    for (int64_t step = begin; step < t; step++) events(step).count = 0;
    for (int64_t e = 0; e < (stopped ? 0 : spikes.count); e++) {
      const int32_t* event = spikes.numbers + 3 * e;
      const int64_t step = event[0], l = event[1] - first, neuron = event[2];
      const bool valid = step >= -r.K && step < t && l >= 0 && l < samples && neuron >= 0 && neuron < part.senders;
      spikes.whole = spikes.whole && valid;
      if (valid && step >= begin) events(step).add_spike(event[2], static_cast<int>(l));
    }
    spikes.count = 0;
  }

  void record(int64_t t, EventList& to) const {
    const Events<C, L>& list = events(t);
    for (int l = 0; l < samples; l++)
      for (size_t e = 0; e < list.count; e++)
        if (list.samples[e] >> l & 1)
          add_event(to, t, first + l, list.index[e], list.value[e * L + static_cast<size_t>(l)]);
  }

  // Adds the rows of the spikes that arrive at step t. They are listed first, so that loads of their places overlap;
  // they are prefetched some chunks ahead of the additions.
  template <bool OneARow>
  void deliver(int64_t t, C* sum) {
    arrivals.clear();
    for (int64_t k = 0; k < s.delays; k++)
      if (t - s.steps[k] >= -r.K)
        for (const SparseGroup* other : others) {
          const Events<C, L>& list = other->events(t - s.steps[k]);
          const auto each_row = [&](const auto& visit) {
            for (size_t e = 0; e < list.count; e++) visit(synapses.template row<OneARow>(list.index[e], k), e);
          };
          const auto arrive = [&](const auto& row, size_t e) {
            if (row.count > 0) arrivals.push_back({row, list.value.data() + e * L, list.samples[e]});
          };
          if (others.size() == 1) {
            each_row(arrive);
            continue;
          }
          const auto each_input = [&](const auto& visit) {
            for (int64_t input = 0; input < r.inputs * H; input += H) visit(input + low, input + high, r.inputs * H);
          };
          each_row(
              [&](const auto& row, size_t) { each_input([&](auto... range) { row.prefetch_between(range...); }); });
          each_row([&](const auto& row, size_t e) {
            each_input([&](auto... range) { arrive(row.template between<OneARow>(range...), e); });
          });
        }
    constexpr int kChunksAhead = 16;
    auto next = arrivals.begin();
    int64_t place = 0;
    const auto prefetch = [&] {
      if (next == arrivals.end()) return;
      next->row.template prefetch<OneARow>(place);
      place += next->row.kChunk;
      if (place >= next->row.count) next++, place = 0;
    };
    for (int chunk = 0; chunk < kChunksAhead; chunk++) prefetch();
    for (const Arrival& arrival : arrivals)
      arrival.row.template deliver<OneARow>(arrival.samples, arrival.value, sum, prefetch);
  }

  template <bool OneARow>
  void gather(int64_t t, C* back, C* grad_weight) {
    const Events<C, L>& list = events(t);
    const size_t count = t >= -r.K ? list.count : 0;
    size_t e = 0;
    for (int64_t j = 0; j < H; j++) {
      const bool spiked = e < count && list.index[e] == j;
      const C* spikes = list.value.data() + e * L;
      Vector sum{};
      for (int64_t k = 0; k < s.delays; k++) {
        const int64_t arrives = t + s.steps[k];
        const auto row = synapses.template row<OneARow>(j, k);
        if (arrives < 0 || arrives >= a.T || row.count == 0) continue;
        const C* inputs = inputs_back(arrives);
        if (!OneARow && spiked)
          row.gather_and_learn(inputs, sum, spikes, L == 1 ? 1 : list.samples[e], grad_weight + synapses.begin(j, k));
        else
          row.template gather<OneARow>(inputs, sum);
      }
      if constexpr (OneARow) {
        if (spiked)
          for (int l = 0; l < L; l++) grad_weight[j] += spikes[l] * lane<C, L>(sum, l);
        sum *= synapses.weight[j];
      }
      Lanes<C, L>::at(back + j * L) = sum;
      e += spiked;
    }
  }
};

// Number of ranges of neurons that a call with one sample is split into, one for each thread. As many steps as the
// shortest delay has run without the spikes of other ranges, and each range finds its synapses in every row: with many
// steps and long rows this is worth it.
inline int64_t sparse_parts(const RecurrentScan& a) {
  const Recurrence& r = a.recurrence;
  const Synapses& s = r.synapses;
  constexpr int64_t kFewest = 1 << 15, kShortest = 64;  // neurons times steps, synapses of a row
  if (a.N != r.H || r.part.spikes || r.learning.learner) return 1;
  if (s.steps[0] * r.H < kFewest || s.count(r.H) < kShortest * s.delays * r.H) return 1;
  return min(r.threads, (r.H + kBlock - 1) / kBlock);
}

// The forward pass of a call with one sample, on several threads: as that of one, bit for bit.
template <class C, class Index>
void forward_in_parts(const RecurrentForwardScan& a, const RecurrentNeuron<C>& neuron, const SparseMemory<C>& memory,
                      int64_t count) {
  const int64_t window = min(a.recurrence.synapses.steps[0], a.T);
  std::deque<SparseGroup<C, 1, Index>> parts;
  List<const SparseGroup<C, 1, Index>*> all;
  for (int64_t part = 0; part < count; part++)
    all.push_back(&parts.emplace_back(a, neuron, memory, 0, window, part, count));
  for (auto& part : parts) {
    part.others = all;
    forward_begin(neuron, part);
  }
  for (int64_t begin = 0; begin < a.T; begin += window) {
    const auto steps = [&](int64_t first, int64_t last) {
      for (int64_t part = first; part < last; part++)
        forward_steps(a, neuron, parts[static_cast<size_t>(part)], begin, min(begin + window, a.T));
      stream_done();
    };
    a.recurrence.parallel_for(count, 1, &steps, [](const void* run, int64_t first, int64_t last) {
      (*static_cast<decltype(&steps)>(run))(first, last);
    });
  }
}

// Calls run(SparseGroup) for the samples of group `number`.
template <class C, class Run>
void with_sparse_group(const RecurrentScan& a, const RecurrentNeuron<C>& neuron, const SparseMemory<C>& memory,
                       int64_t number, int64_t steps, const Run& run) {
  const int64_t first = number * kSparseGroup;
  const auto with_lanes = [&](auto lanes, auto index) {
    SparseGroup<C, decltype(lanes)::value, decltype(index)> group(a, neuron, memory, first, steps);
    run(group);
  };
  const auto with_index = [&](auto lanes) {
    a.recurrence.synapses.wide ? with_lanes(lanes, int32_t{}) : with_lanes(lanes, int16_t{});
  };
  switch (sparse_lanes(a.N / a.recurrence.H - first)) {
    case 1: return with_index(std::integral_constant<int, 1>{});
    case 4: return with_index(std::integral_constant<int, 4>{});
    default: return with_index(std::integral_constant<int, kSparseGroup>{});
  }
}

}  // namespace
}  // namespace snnfast::cpu
