// The events of a sample in order of time, and the intervals between those at different times.
#pragma once
#include "core/spikeprop.h"
#include "core/arena.h"

namespace snnfast::cpu {
namespace {

template <class C>
constexpr C kInfinity = static_cast<C>(__builtin_inf());

// ---- sorting

inline int64_t sort_buckets(int64_t n) {
  int64_t buckets = 16;
  while (buckets < n) buckets *= 2;
  return buckets;
}

template <class C>
inline void merge_sorted(const C* times, const int32_t* order, int64_t begin, int64_t middle, int64_t end, C* to_times, int32_t* to_order) {
  int64_t i = begin, j = middle;
  for (int64_t n = begin; n < end; n++) {
    const bool first = i < middle && (j >= end || !(times[j] < times[i]));
    const int64_t from = first ? i++ : j++;
    to_times[n] = times[from], to_order[n] = order[from];
  }
}

template <class C>
void merge_sort(int64_t n, C* times, int32_t* order, C* spare_times, int32_t* spare_order) {
  C *from_times = times, *to_times = spare_times;
  int32_t *from_order = order, *to_order = spare_order;
  for (int64_t width = 1; width < n; width *= 2) {
    for (int64_t begin = 0; begin < n; begin += 2 * width) {
      const int64_t middle = begin + width < n ? begin + width : n, end = begin + 2 * width < n ? begin + 2 * width : n;
      merge_sorted(from_times, from_order, begin, middle, end, to_times, to_order);
    }
    C* const t = from_times;
    int32_t* const o = from_order;
    from_times = to_times, to_times = t;
    from_order = to_order, to_order = o;
  }
  if (from_times == times) return;
  for (int64_t i = 0; i < n; i++) times[i] = from_times[i], order[i] = from_order[i];
}

template <class C>
struct SortMemory {
  C* times;
  int32_t *order, *keys, *starts;
  static int64_t bytes(int64_t n) { return n * static_cast<int64_t>(sizeof(C) + 8) + 4 * (sort_buckets(n) + 1); }
  SortMemory(void* memory, int64_t n) : times(static_cast<C*>(memory)) {
    order = reinterpret_cast<int32_t*>(times + n);
    keys = order + n;
    starts = keys + n;
  }
};

// Stable. Into buckets of equal width, about one an event, and then by insertion, which finds little to do unless times
// crowd together: ties share a bucket in their order. If it finds much, the rest is merging.
template <class C>
void sort_events(int64_t n, const SortMemory<C>& m, C* times, int32_t* order) {
  if (n == 0) return;
  constexpr int kChains = 8;
  C lows[kChains], highs[kChains];
  for (int k = 0; k < kChains; k++) lows[k] = highs[k] = m.times[0];
  int64_t i = 0;
  for (; i + kChains <= n; i += kChains)
    for (int k = 0; k < kChains; k++) {
      const C t = m.times[i + k];
      lows[k] = t < lows[k] ? t : lows[k], highs[k] = t > highs[k] ? t : highs[k];
    }
  for (; i < n; i++) lows[0] = m.times[i] < lows[0] ? m.times[i] : lows[0], highs[0] = m.times[i] > highs[0] ? m.times[i] : highs[0];
  C low = lows[0], high = highs[0];
  for (int k = 1; k < kChains; k++) low = lows[k] < low ? lows[k] : low, high = highs[k] > high ? highs[k] : high;

  const int64_t buckets = sort_buckets(n);
  const C scale = high > low ? static_cast<C>(buckets - 1) / (high - low) : C(0);
  const int32_t last = static_cast<int32_t>(buckets - 1);
  for (i = 0; i < n; i++) {
    const int32_t key = static_cast<int32_t>((m.times[i] - low) * scale);
    m.keys[i] = key < 0 ? 0 : key > last ? last : key;
  }
  for (i = 0; i <= buckets; i++) m.starts[i] = 0;
  for (i = 0; i < n; i++) m.starts[m.keys[i] + 1]++;
  for (i = 0; i < buckets; i++) m.starts[i + 1] += m.starts[i];
  for (i = 0; i < n; i++) {
    const int32_t to = m.starts[m.keys[i]]++;
    times[to] = m.times[i], order[to] = m.order[i];
  }
  int64_t budget = 8 * n;
  for (i = 1; i < n; i++) {
    const C t = times[i];
    if (!(times[i - 1] > t)) continue;
    const int32_t o = order[i];
    int64_t j = i;
    for (; j > 0 && times[j - 1] > t; j--) times[j] = times[j - 1], order[j] = order[j - 1];
    times[j] = t, order[j] = o;
    budget -= i - j;
    if (budget < 0) return merge_sort(n, times, order, m.times, m.order);
  }
}

// Lists the events of sample b up to t_max, in order of their numbers; returns how many, and what is wrong with the input.
template <class C>
int64_t list_events(const SpikePropEvents& a, int64_t b, const SortMemory<C>& m, int32_t* problems) {
  const C* t_in = static_cast<const C*>(a.t_in) + b * a.I;
  const C* delays = static_cast<const C*>(a.delays);
  const C end = static_cast<C>(a.t_max);
  int32_t bad = 0, late = 0;
  for (int64_t i = 0; i < a.I; i++) {
    bad |= !(t_in[i] >= 0);
    late |= t_in[i] > end && t_in[i] < kInfinity<C>;
  }
  *problems = (bad ? kBadInput : 0) | (late ? kLateInput : 0);
  int64_t n = 0;
  if (a.K == 1) {
    for (int64_t i = 0; i < a.I; i++) {
      const C t = t_in[i] + delays[i * a.delay_stride];
      m.times[n] = t, m.order[n] = static_cast<int32_t>(i);
      n += t <= end;
    }
    return n;
  }
  for (int64_t i = 0; i < a.I; i++) {
    if (!(t_in[i] <= end)) continue;
    const C* d = delays + i * a.delay_stride;
    for (int64_t k = 0; k < a.K; k++) {
      const C t = t_in[i] + d[k];
      m.times[n] = t, m.order[n] = static_cast<int32_t>(i * a.K + k);
      n += t <= end;
    }
  }
  return n;
}

// ---- intervals

// Of one sample: interval g begins with the events [end[g - 1], end[g]), which come at one time, and is as long as it takes
// to the next event or to t_max.
template <class C>
struct Intervals {
  C *length, *decay, *bound, *begin;
  int32_t *end, *of_event;  // of_event: the interval that an event begins

  static int64_t bytes(int64_t n) { return (n + 16) * static_cast<int64_t>(4 * sizeof(C) + 8); }
  Intervals(char* memory, int64_t n, int64_t b) {
    char* mine = memory + b * bytes(n);
    length = reinterpret_cast<C*>(mine);
    decay = length + n + 16;
    bound = decay + n + 16;
    begin = bound + n + 16;
    end = reinterpret_cast<int32_t*>(begin + n + 16);
    of_event = end + n + 16;
  }
};

template <class C>
int64_t find_intervals(const SpikePropEvents& a, int64_t b, const Intervals<C>& v) {
  const C* times = static_cast<const C*>(a.times) + b * a.N;
  const int64_t n = a.counts[2 * b];
  int64_t count = 0;
  for (int64_t e = 0; e < n; e++) {
    v.begin[count] = times[e];
    v.of_event[e] = static_cast<int32_t>(count);
    v.end[count] = static_cast<int32_t>(e + 1);
    count += e + 1 == n || times[e + 1] != times[e];
  }
  const double inverse_tau = 1 / spikeprop_tau<C>(a), threshold = a.v_threshold * spikeprop_tau<C>(a) / kEuler;
  v.begin[count] = static_cast<C>(a.t_max);
#pragma omp simd
  for (int64_t g = 0; g < count; g++) {
    const double length = static_cast<double>(v.begin[g + 1]) - static_cast<double>(v.begin[g]);
    v.length[g] = static_cast<C>(length);
    v.decay[g] = static_cast<C>(exp_nonpositive(-length * inverse_tau));
    v.bound[g] = spikeprop_bound<C>(length, inverse_tau, threshold);
  }
  return count;
}

// ---- the grid

// Points k dt of one sample: when, how long after the last event before, and the decay since.
template <class C>
struct Grid {
  C *time, *after, *decay;
  int32_t* end;  // [intervals]: the first point after the interval

  static int64_t bytes(int64_t n, int64_t points) { return points ? (points * static_cast<int64_t>(3 * sizeof(C)) + n * 4 + 63) / 64 * 64 : 0; }
  Grid(char* memory, int64_t n, int64_t points, int64_t b) {
    time = reinterpret_cast<C*>(memory + b * bytes(n, points));
    after = time + points;
    decay = after + points;
    end = reinterpret_cast<int32_t*>(decay + points);
  }
};

// Returns the first point that is not before the first event.
template <class C>
int64_t find_grid(const SpikePropEvents& a, const Intervals<C>& v, int64_t intervals, const Grid<C>& grid) {
  if (intervals == 0) return 0;
  for (int64_t k = 0; k < a.grid_points; k++) grid.time[k] = static_cast<C>(static_cast<double>(k) * a.dt);
  int64_t first = 0;
  while (first < a.grid_points && grid.time[first] < v.begin[0]) first++;
  int64_t k = first;
  for (int64_t g = 0; g < intervals; g++) {
    for (; k < a.grid_points && (g + 1 == intervals || grid.time[k] < v.begin[g + 1]); k++) grid.after[k] = grid.time[k] - v.begin[g];
    grid.end[g] = static_cast<int32_t>(k);
  }
  const C inverse_tau = static_cast<C>(1 / spikeprop_tau<C>(a));
#pragma omp simd
  for (k = first; k < a.grid_points; k++) grid.decay[k] = exp_nonpositive(-grid.after[k] * inverse_tau);
  return first;
}

// ---- memory of a call

// Neurons side by side: a cache line of weights for few of them, else two.
template <class C>
inline int64_t lanes_of(int64_t neurons) {
  const int64_t line = 64 / static_cast<int64_t>(sizeof(C));
  return neurons <= line ? line : 2 * line;
}

// Few blocks of neurons leave threads idle, so the sum over samples is cut in pieces: as many whatever the threads, so that it
// is always the same.
inline int64_t pieces_of(int64_t blocks, int64_t samples) {
  const int64_t wanted = blocks >= 8 ? 1 : 8 / blocks, most = (samples + 15) / 16;
  return wanted < most ? wanted : most > 0 ? most : 1;
}

template <class C>
struct SpikePropMemory {
  int64_t lanes, blocks, pieces;
  char *intervals, *grid;
  int32_t *counts, *first_points, *problems;  // [B]: intervals, points of the grid before the first event, what is wrong
  uint8_t* used;                              // [N]: whether it is an event of any sample
  C* packed;                                  // [blocks, N, lanes]: weights
  C* sums;                                    // [blocks, pieces, N, lanes]: gradients of the weights
  C* by_event;                                // [B, N]: gradients of the times of events, unsorted
  double* by_tau;                             // [B]
  int64_t bytes;

  SpikePropMemory(const SpikePropEvents& a, bool backward, char* memory) {
    Arena arena(memory);
    lanes = lanes_of<C>(a.O), blocks = (a.O + lanes - 1) / lanes, pieces = blocks ? pieces_of(blocks, a.B) : 1;
    intervals = arena.take<char>(a.B * Intervals<C>::bytes(a.N));
    grid = arena.take<char>(backward ? 0 : a.B * Grid<C>::bytes(a.N, a.grid_points));
    counts = arena.take<int32_t>(a.B);
    first_points = arena.take<int32_t>(a.B);
    problems = arena.take<int32_t>(a.B);
    used = arena.take<uint8_t>(a.N);
    packed = arena.take<C>(blocks * a.N * lanes);
    sums = arena.take<C>(backward && pieces > 1 ? blocks * pieces * a.N * lanes : 0);
    by_event = arena.take<C>(backward ? a.B * a.N : 0);
    by_tau = arena.take<double>(backward ? a.B : 0);
    bytes = arena.used();
  }
  Intervals<C> intervals_of(const SpikePropEvents& a, int64_t b) const { return {intervals, a.N, b}; }
  Grid<C> grid_of(const SpikePropEvents& a, int64_t b) const { return {grid, a.N, a.grid_points, b}; }
};

}  // namespace
}  // namespace snnfast::cpu
