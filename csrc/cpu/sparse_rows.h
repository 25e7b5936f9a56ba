// Rows of sparse synapses on the CPU, for recurrent (sparse_connections.h) and feed-forward (sparse_linear.cpp)
// connections. Samples are lanes: arrays by neuron hold L numbers a neuron, so that a synapse is loaded once for all of
// them. The rows by presynaptic neuron serve both directions.
#pragma once
#include <algorithm>
#include <vector>

#include "core/recurrent.h"
#include "cpu/lanes.h"

namespace snnfast::cpu {
namespace {

// A vector whose functions no other file has: of a vector of floats the linker could keep the functions for AVX-512,
// for all instruction sets.
template <class T>
struct LocalAllocator {
  using value_type = T;
  LocalAllocator() = default;
  template <class U>
  LocalAllocator(const LocalAllocator<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T))); }
  void deallocate(T* memory, size_t) { ::operator delete(memory); }
  bool operator==(const LocalAllocator&) const { return true; }
  bool operator!=(const LocalAllocator&) const { return false; }
};
template <class T>
using List = std::vector<T, LocalAllocator<T>>;

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

template <class C, int L>
inline C lane(const typename Lanes<C, L>::Type& vector, [[maybe_unused]] int l) {
  if constexpr (L == 1)
    return vector;
  else
    return vector[l];
}

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

// Calls visit(neuron, bits of its lanes that are not 0, its values) for the neurons of [low, high) that have any. Reads
// 16 numbers at a time, so there are zeros behind the last.
template <int L, class C, class Visit>
inline void each_event(const C* values, int64_t low, int64_t high, const Visit& visit) {
  constexpr int kNeurons = 16 / L;
  constexpr uint32_t kAll = (1u << L) - 1;  // bits of all lanes
  for (int64_t j = low; j < high; j += kNeurons)
    for (uint32_t bits = not_zero(values + j * L), n; bits; bits &= ~(kAll << n * L)) {
      n = static_cast<uint32_t>(__builtin_ctz(bits)) / L;
      visit(j + n, bits >> n * L & kAll, values + (j + n) * L);
    }
}

// The neurons that spiked in any sample at a step, rising. The memory only grows.
template <class C, int L>
struct Events {
  size_t count = 0;
  List<int32_t> index;
  List<uint16_t> samples;  // bit l: the sample of lane l spiked
  List<C> value;           // L for each neuron

  // Lists the neurons of [low, high) that spiked.
  void list(const C* values, int64_t low, int64_t high) {
    count = 0;
    each_event<L>(values, low, high, [&](int64_t j, uint32_t spiked, const C* of_neuron) {
      add(static_cast<int32_t>(j), static_cast<uint16_t>(spiked), of_neuron);
    });
  }

  // Adds a spike of the last neuron or of one behind it.
  void add_spike(int32_t neuron, int lane) {
    const C none[L] = {};
    if (count == 0 || index[count - 1] != neuron) add(neuron, 0, none);
    samples[count - 1] = static_cast<uint16_t>(samples[count - 1] | 1u << lane);
    value[(count - 1) * L + static_cast<size_t>(lane)] += C(1);
  }

 private:
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

// Synapses; local copies of their pointers, since a store to a vector may change anything else.
template <class C, int L, class Index>
struct SparseRow {
  using Vector = typename Lanes<C, L>::Type;
  static constexpr int kFewSamples = 1;
  static constexpr int64_t kChunk = 32, kWord = sizeof(uint64_t) / sizeof(Index);
  static constexpr uint64_t kMask = (uint64_t(1) << 8 * sizeof(Index)) - 1;

  const Index* targets;
  const C* weight;
  int64_t count;

  // The synapses to the targets [first, last) of all targets, [0, all).
  template <bool OneARow>
  inline SparseRow between(int64_t first, int64_t last, int64_t all) const {
    const int64_t from = place(first, all), to = place(last, all);
    return {targets + from, weight + (OneARow ? 0 : from), to - from};
  }
  // Prefetches the targets that between() reads first.
  inline void prefetch_between(int64_t first, int64_t last, int64_t all) const {
    __builtin_prefetch(targets + expected(first, all));
    __builtin_prefetch(targets + expected(last, all));
  }
  // Calls every() before each kChunk synapses, and once for a shorter rest.
  template <bool OneARow, class Every>
  inline void add(C value, C* __restrict to, const Every& every) const {
    const Index* const target = targets;
    const C* const w = weight;
    const int64_t n = count;
    const C first = OneARow ? value * *w : C(0);
    int64_t q = 0;
    for (; q + kChunk <= n; q += kChunk) {
      every();
      if constexpr (OneARow) {
        for (int64_t k = q; k < q + kChunk; k += kWord) {
          uint64_t word;  // a load of several targets, whose order does not matter
          __builtin_memcpy(&word, target + k, sizeof word);
          for (int64_t i = 0; i < kWord; i++) to[int64_t(word >> 8 * sizeof(Index) * i & kMask) * L] += first;
        }
      } else {
        for (int64_t k = q; k < q + kChunk; k++) to[int64_t(target[k]) * L] += value * w[k];
      }
    }
    if (q < n) every();
    for (; q < n; q++) to[int64_t(target[q]) * L] += OneARow ? first : value * w[q];
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
  // Adds the values of the samples that spiked, whose bits are set; calls every() once for each kChunk synapses.
  template <bool OneARow, class Every>
  inline void deliver(uint32_t spiked, const C* values, C* to, const Every& every) const {
    if constexpr (L == 1) {
      add<OneARow>(*values, to, every);
    } else {
      for (int64_t q = 0; q < count; q += kChunk) every();
      if (__builtin_popcount(spiked) > kFewSamples)
        add_lanes<OneARow>(values, to);
      else
        for (; spiked; spiked = without_first(spiked))
          add<OneARow>(values[__builtin_ctz(spiked)], to + __builtin_ctz(spiked), [] {});
    }
  }
  // Prefetches kChunk synapses from q on.
  template <bool OneARow>
  inline void prefetch(int64_t q) const {
    const auto lines = [](const void* from, size_t bytes) {
      for (size_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(static_cast<const char*>(from) + byte);
    };
    lines(targets + q, kChunk * sizeof(Index));
    OneARow ? lines(weight, 1) : lines(weight + q, kChunk * sizeof(C));
  }
  // sum += over synapses weight * input, or the input
  template <bool OneARow>
  inline void gather(const C* inputs, Vector& sum) const {
    pass<OneARow, true, 0>(inputs, sum, nullptr, 0, nullptr);
  }
  // The same, and grad += over samples that spiked spikes * input
  inline void gather_and_learn(const C* inputs, Vector& sum, const C* spikes, uint32_t spiked, C* grad) const {
    passes<true>(inputs, sum, spikes, spiked, grad);
  }
  inline void learn(const C* inputs, const C* spikes, uint32_t spiked, C* grad) const {
    Vector none{};
    passes<false>(inputs, none, spikes, spiked, grad);
  }

 private:
  // Number of synapses to targets below `target`, if targets were spread evenly; and the number itself.
  inline int64_t expected(int64_t target, int64_t all) const {
    return static_cast<int64_t>(static_cast<double>(count) * static_cast<double>(target) / static_cast<double>(all));
  }
  inline int64_t place(int64_t target, int64_t all) const {
    if (target == 0 || target >= all) return target ? count : 0;
    const int64_t guess = expected(target, all);
    for (int64_t around = 32;; around *= 4) {
      const int64_t low = max(guess - around, int64_t(0)), high = min(guess + around, count);
      if ((low == 0 || targets[low - 1] < target) && (high == count || targets[high] >= target))
        return std::lower_bound(targets + low, targets + high, target) - targets;
    }
  }

  static uint32_t without_first(uint32_t bits) { return bits & (bits - 1); }

  template <bool Gathers>
  inline void passes(const C* inputs, Vector& sum, const C* spikes, uint32_t spiked, C* grad) const {
    if (__builtin_popcount(spiked) == 1) return pass<false, Gathers, 1>(inputs, sum, spikes, spiked, grad);
    pass<false, Gathers, 2>(inputs, sum, spikes, spiked, grad);
    const Index* const target = targets;
    const int64_t n = count;
    for (uint32_t left = without_first(without_first(spiked)); left; left = without_first(left)) {
      const C factor = spikes[__builtin_ctz(left)];
      const C* const from = inputs + __builtin_ctz(left);
      for (int64_t q = 0; q < n; q++) grad[q] += factor * from[int64_t(target[q]) * L];
    }
  }

  // One pass over the synapses, which learns from the first `Learned` samples that spiked.
  template <bool OneARow, bool Gathers, int Learned>
  inline void pass(const C* inputs, Vector& sum, const C* spikes, uint32_t spiked, C* __restrict grad) const {
    const Index* const target = targets;
    [[maybe_unused]] const C* const w = weight;
    const int64_t n = count;
    [[maybe_unused]] const int l = Learned ? __builtin_ctz(spiked) : 0,
                               m = Learned > 1 ? __builtin_ctz(without_first(spiked)) : 0;
    [[maybe_unused]] const C factor = Learned ? spikes[l] : C(0), other = Learned > 1 ? spikes[m] : C(0);
    Vector even{}, odd{};  // two chains of additions
    const auto add = [&](int64_t q, [[maybe_unused]] Vector& to) {
      const C* const input = inputs + int64_t(target[q]) * L;
      if constexpr (Gathers && OneARow) to += Lanes<C, L>::at(input);
      if constexpr (Gathers && !OneARow) to += Lanes<C, L>::at(input) * w[q];
      if constexpr (Learned == 1) grad[q] += factor * input[l];
      if constexpr (Learned == 2) grad[q] += factor * input[l] + other * input[m];
    };
    int64_t q = 0;
    for (; q + 1 < n; q += 2) add(q, even), add(q + 1, odd);
    if (q < n) add(q, even);
    sum += even + odd;
  }
};

// All rows, by presynaptic neuron and index of the delay.
template <class C, int L, class Index>
struct SparseRows {
  const Synapses& s;
  const Index* targets;
  const C* weight;

  SparseRows(const Synapses& synapses, const void* weights)
      : s(synapses), targets(static_cast<const Index*>(s.targets)), weight(static_cast<const C*>(weights)) {}

  int64_t begin(int64_t j, int64_t k) const { return s.first[j * s.delays + k]; }
  template <bool OneARow>
  SparseRow<C, L, Index> row(int64_t j, int64_t k) const {
    const int64_t first = begin(j, k);
    return {targets + first, weight + (OneARow ? j : first), s.first[j * s.delays + k + 1] - first};
  }
};

}  // namespace
}  // namespace snnfast::cpu
