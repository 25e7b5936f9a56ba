// Sparse connections of recurrent neurons on the CPU: what Group (recurrent_loop.h) is for dense ones. The samples of a
// group are lanes: arrays by neuron hold L numbers a neuron, so that a synapse is loaded once for all of them. The
// spikes of a step are a list, delivered when they arrive: all additions of a step go to one array. The rows by
// presynaptic neuron serve both directions.
#pragma once
#include <algorithm>
#include <deque>
#include <vector>

#include "cpu/noise.h"
#include "cpu/recurrent_loop.h"

namespace snnfast::cpu {
namespace {

// L numbers, added and multiplied lane by lane.
template <class C, int L>
struct Lanes {
  typedef C Type __attribute__((vector_size(L * sizeof(C)), aligned(sizeof(C)), may_alias));
  static Type& at(C* p) { return *reinterpret_cast<Type*>(p); }
  static const Type& at(const C* p) { return *reinterpret_cast<const Type*>(p); }
};
template <class C>
struct Lanes<C, 1> {
  using Type = C;
  static C& at(C* p) { return *p; }
  static const C& at(const C* p) { return *p; }
};

// The neurons that spiked in any sample at a step, rising. The memory only grows.
template <class C, int L>
struct Events {
  size_t count = 0;
  std::vector<int32_t> index;
  std::vector<uint16_t> samples;  // bit l: the sample of lane l spiked
  std::vector<C> value;           // L for each neuron

  void add(int32_t neuron, uint16_t spiked, const C* values) {
    if (count == index.size()) grow(2 * count + 64);
    index[count] = neuron;
    samples[count] = spiked;
    for (int l = 0; l < L; l++) value[count * L + static_cast<size_t>(l)] = values[l];
    count++;
  }
  void grow(size_t size) {
    index.resize(size);
    samples.resize(size);
    value.resize(size * L);
  }
};

// Bit l is set where p[l] is not 0, for 16 numbers.
inline uint32_t not_zero(const float* p) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(_mm512_loadu_ps(p), _mm512_setzero_ps(), _CMP_NEQ_UQ);
#elif defined(__AVX2__)
  const auto half = [](const float* from) {
    return static_cast<uint32_t>(
        _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(from), _mm256_setzero_ps(), _CMP_NEQ_UQ)));
  };
  return half(p) | half(p + 8) << 8;
#else
  uint32_t bits = 0;
  for (int l = 0; l < 16; l++) bits |= static_cast<uint32_t>(p[l] != 0) << l;
  return bits;
#endif
}
inline uint32_t not_zero(const double* p) {
  uint32_t bits = 0;
#if defined(__AVX512F__)
  for (int l = 0; l < 16; l += 8)
    bits |= static_cast<uint32_t>(_mm512_cmp_pd_mask(_mm512_loadu_pd(p + l), _mm512_setzero_pd(), _CMP_NEQ_UQ)) << l;
#else
  for (int l = 0; l < 16; l++) bits |= static_cast<uint32_t>(p[l] != 0) << l;
#endif
  return bits;
}

// rows [L, width] to [width, L] and back
template <int L, class C>
inline void by_neuron(const C* rows, int64_t width, C* out) {
  if constexpr (L == 16 && sizeof(C) == 4)
    for (int64_t j = 0; j < width; j += 16) transpose(rows + j, width, out + j * L, L);
  else
    for (int64_t j = 0; j < width; j++)
      for (int l = 0; l < L; l++) out[j * L + l] = rows[l * width + j];
}
template <int L, class C>
inline void by_sample(const C* in, int64_t width, C* rows) {
  if constexpr (L == 16 && sizeof(C) == 4)
    for (int64_t j = 0; j < width; j += 16) transpose(in + j * L, L, rows + j, width);
  else
    for (int64_t j = 0; j < width; j++)
      for (int l = 0; l < L; l++) rows[l * width + j] = in[j * L + l];
}

template <class C, int L, class Index>
struct SparseGroup : Samples<C> {
  using Samples<C>::a, Samples<C>::r, Samples<C>::first, Samples<C>::samples, Samples<C>::H, Samples<C>::width;
  using Samples<C>::wide, Samples<C>::neuron, Samples<C>::clear, Samples<C>::spikes_at;
  using Samples<C>::low, Samples<C>::high;
  using Vector = typename Lanes<C, L>::Type;
  static constexpr uint32_t kAll = (1u << L) - 1;  // bits of all lanes
  static constexpr int kFewSamples = 1;

  const SparseMemory<C>& memory;
  const Synapses& s;
  const Index* targets;
  const C* weight;
  std::vector<Events<C, L>> sent;                // ring of the events of the last steps, a power of 2
  std::vector<const SparseGroup*> others{this};  // parts of the neurons, whose events arrive here

  // steps: number of steps whose events are stored besides those that are in transit
  SparseGroup(const RecurrentScan& scan, const RecurrentNeuron<C>& maths, const SparseMemory<C>& scratch,
              int64_t first_sample, int64_t steps, int64_t part = 0, int64_t parts = 1)
      : Samples<C>(scan, maths, scratch, L, first_sample, part, parts),
        memory(scratch),
        s(r.synapses),
        targets(static_cast<const Index*>(s.targets)),
        weight(static_cast<const C*>(r.weight)) {
    size_t size = 1;
    while (size < static_cast<size_t>(s.longest() + steps)) size *= 2;
    sent.resize(size);
  }

  // ---- the functions that the loops call

  void begin_forward() { begin_segment(Rows{}, 0, 0); }
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
        if (r.noise.table) add_noise(r.noise, k * H + low, k * H + high, first + g, t, memory.current + g * wide);
      }
    }
    C* sum = L == 1 ? memory.current : memory.by_neuron;
    if constexpr (L > 1) by_neuron<L>(memory.current, wide, sum);
    for (int64_t k = 0; k < s.delays; k++)
      if (t - s.steps[k] >= -r.K)
        for (const SparseGroup* other : others) {
          const Events<C, L>& list = other->events(t - s.steps[k]);
          s.one_a_row ? deliver<true>(list, k, sum) : deliver<false>(list, k, sum);
        }
    if constexpr (L > 1) by_sample<L>(sum, wide, memory.current);
  }
  const C* input(const Rows&, int64_t, int64_t, int64_t g, bool) const { return memory.current + g * wide; }

  // Lists the spikes of step t.
  void end_step(int64_t t) {
    Events<C, L>& list = events(t);
    list.count = 0;
    const C* spikes = memory.spikes;
    if constexpr (L > 1) {
      by_neuron<L>(memory.spikes, width, memory.by_neuron);
      spikes = memory.by_neuron;
    }
    constexpr int kNeurons = 16 / L;  // at a time; there is padding behind the last
    for (int64_t j = low; j < high; j += kNeurons)
      for (uint32_t bits = not_zero(spikes + j * L), n; bits; bits &= ~(kAll << n * L)) {
        n = static_cast<uint32_t>(__builtin_ctz(bits)) / L;
        list.add(static_cast<int32_t>(j + n), static_cast<uint16_t>(bits >> n * L & kAll), spikes + (j + n) * L);
      }
  }

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
  Events<C, L>& events(int64_t t) { return sent[static_cast<size_t>(t) & (sent.size() - 1)]; }
  const Events<C, L>& events(int64_t t) const { return sent[static_cast<size_t>(t) & (sent.size() - 1)]; }
  C* inputs_back(int64_t t) const { return memory.inputs_back + (t & (memory.ring - 1)) * wide * L; }

  // Adds the rows of the events with delay k.
  template <bool OneARow>
  void deliver(const Events<C, L>& list, int64_t k, C* sum) const {
    for (size_t e = 0; e < list.count; e++) {
      const int64_t j = list.index[e], begin = s.first[j * s.delays + k], end = s.first[j * s.delays + k + 1];
      if (e + 1 < list.count) prefetch(list.index[e + 1], k);
      const C* value = list.value.data() + e * L;
      const Row row{targets + begin, weight + (OneARow ? j : begin), end - begin};
      if constexpr (L == 1) {
        if (others.size() == 1)
          row.template add<OneARow>(*value, sum);
        else
          for (int64_t input = 0; input < r.inputs * H; input += H)
            row.template between<OneARow>(input + low, input + high).template add<OneARow>(*value, sum);
      } else {
        uint32_t spiked = list.samples[e];
        if (__builtin_popcount(spiked) <= kFewSamples)
          for (; spiked; spiked &= spiked - 1)
            row.template add<OneARow>(value[__builtin_ctz(spiked)], sum + __builtin_ctz(spiked));
        else
          row.template add_lanes<OneARow>(value, sum);
      }
    }
  }

  // Synapses; local copies of their pointers, since a store to a vector may change anything else.
  struct Row {
    const Index* targets;
    const C* weight;
    int64_t count;

    // The synapses to the targets [first, last).
    template <bool OneARow>
    inline Row between(int64_t first, int64_t last) const {
      const Index* const end = targets + count;
      const Index* const from = count && *targets < first ? std::lower_bound(targets, end, first) : targets;
      const Index* const to = count && end[-1] >= last ? std::lower_bound(from, end, last) : end;
      return {from, weight + (OneARow ? 0 : from - targets), to - from};
    }
    template <bool OneARow>
    inline void add(C value, C* __restrict to) const {
      const Index* const target = targets;
      const C* const w = weight;
      const C first = OneARow ? value * *w : C(0);
      for (int64_t q = 0; q < count; q++) to[int64_t(target[q]) * L] += OneARow ? first : value * w[q];
    }
    template <bool OneARow>
    inline void add_lanes(const C* value, C* __restrict to) const {
      const Index* const target = targets;
      const C* const w = weight;
      const int64_t n = count;
      const Vector spikes = Lanes<C, L>::at(value), none{};
      for (int64_t q = 0; q < n; q++) {
        Vector& sum = Lanes<C, L>::at(to + int64_t(target[q]) * L);
        sum += spikes != 0 ? spikes * w[OneARow ? 0 : q] : none;  // 0 times infinity adds nothing
      }
    }
    // sum += over synapses weight * input, or the input
    template <bool OneARow>
    inline void gather(const C* inputs, Vector& sum) const {
      gather_and_learn<OneARow, 0>(inputs, sum, nullptr, 0, nullptr);
    }
    // The same, and grad += over samples that spiked spikes * input
    inline void gather_and_learn(const C* inputs, Vector& sum, const C* spikes, uint32_t spiked, C* grad) const {
      if (__builtin_popcount(spiked) == 1) return gather_and_learn<false, 1>(inputs, sum, spikes, spiked, grad);
      gather_and_learn<false, 2>(inputs, sum, spikes, spiked, grad);
      const Index* const target = targets;
      const int64_t n = count;
      for (uint32_t left = without_first(without_first(spiked)); left; left = without_first(left)) {
        const C factor = spikes[__builtin_ctz(left)];
        const C* const from = inputs + __builtin_ctz(left);
        for (int64_t q = 0; q < n; q++) grad[q] += factor * from[int64_t(target[q]) * L];
      }
    }

   private:
    static uint32_t without_first(uint32_t bits) { return bits & (bits - 1); }

    // Learns from the first `Learned` samples that spiked, whose inputs it has just loaded.
    template <bool OneARow, int Learned>
    inline void gather_and_learn(const C* inputs, Vector& sum, const C* spikes, uint32_t spiked,
                                 C* __restrict grad) const {
      const Index* const target = targets;
      const C* const w = weight;
      const int64_t n = count;
      const int l = Learned ? __builtin_ctz(spiked) : 0, m = Learned > 1 ? __builtin_ctz(without_first(spiked)) : 0;
      const C factor = Learned ? spikes[l] : C(0), other = Learned > 1 ? spikes[m] : C(0);
      Vector even{}, odd{};  // two chains of additions
      const auto add = [&](int64_t q, Vector& to) {
        const C* const input = inputs + int64_t(target[q]) * L;
        if constexpr (OneARow)
          to += Lanes<C, L>::at(input);
        else
          to += Lanes<C, L>::at(input) * w[q];
        if constexpr (Learned == 1) grad[q] += factor * input[l];
        if constexpr (Learned == 2) grad[q] += factor * input[l] + other * input[m];
      };
      int64_t q = 0;
      for (; q + 1 < n; q += 2) add(q, even), add(q + 1, odd);
      if (q < n) add(q, even);
      sum += even + odd;
    }
  };

  void prefetch(int64_t j, int64_t k) const {
    const int64_t begin = s.first[j * s.delays + k];
    const char* rows[] = {reinterpret_cast<const char*>(targets + begin),
                          reinterpret_cast<const char*>(weight + (s.one_a_row ? j : begin))};
    for (const char* row : rows)
      for (int line = 0; line < 3; line++) __builtin_prefetch(row + 64 * line);
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
        const int64_t arrives = t + s.steps[k], begin = s.first[j * s.delays + k], end = s.first[j * s.delays + k + 1];
        if (arrives < 0 || arrives >= a.T || begin == end) continue;
        const Row row{targets + begin, weight + (OneARow ? j : begin), end - begin};
        const C* inputs = inputs_back(arrives);
        if (!OneARow && spiked)
          row.gather_and_learn(inputs, sum, spikes, L == 1 ? 1 : list.samples[e], grad_weight + begin);
        else
          row.template gather<OneARow>(inputs, sum);
      }
      if constexpr (OneARow) {
        if (spiked)
          for (int l = 0; l < L; l++) grad_weight[j] += spikes[l] * lane(sum, l);
        sum *= weight[j];
      }
      Lanes<C, L>::at(back + j * L) = sum;
      e += spiked;
    }
  }
  static C lane(const Vector& vector, [[maybe_unused]] int l) {
    if constexpr (L == 1)
      return vector;
    else
      return vector[l];
  }
};

// Number of ranges of neurons that a call with one sample is split into, one for each thread. As many steps as the
// shortest delay has run without the spikes of other ranges, and each range finds its synapses in every row: with many
// steps and long rows this is worth it.
inline int64_t sparse_parts(const RecurrentScan& a) {
  const Recurrence& r = a.recurrence;
  const Synapses& s = r.synapses;
  constexpr int64_t kFewest = 1 << 15, kShortest = 64;  // neurons times steps, synapses of a row
  if (a.N != r.H || s.steps[0] * r.H < kFewest || s.count(r.H) < kShortest * s.delays * r.H) return 1;
  return min(r.threads, (r.H + kBlock - 1) / kBlock);
}

// The forward pass of a call with one sample, on several threads: as that of one, bit for bit.
template <class C, class Index>
void forward_in_parts(const RecurrentForwardScan& a, const RecurrentNeuron<C>& neuron, const SparseMemory<C>& memory,
                      int64_t count) {
  const int64_t window = min(a.recurrence.synapses.steps[0], a.T);
  std::deque<SparseGroup<C, 1, Index>> parts;
  std::vector<const SparseGroup<C, 1, Index>*> all;
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
