// The events of a sample in order of time, and the intervals between those at different times.
#pragma once
#include "core/spikeprop.h"
#include "core/arena.h"

namespace snnfast::cpu {
namespace {

template <class C>
constexpr C kInfinity = static_cast<C>(__builtin_inf());

// ---- sorting

template <class C>
inline void merge_sorted(const C* times, const int32_t* order, int64_t begin, int64_t middle, int64_t end, C* to_times,
                         int32_t* to_order) {
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
      const int64_t middle = min(begin + width, n), end = min(begin + 2 * width, n);
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

constexpr int kDigits = 256;

template <class C>
struct SortMemory {
  C* times;
  int32_t *order, *places;
  uint8_t *low_digit, *high_digit, *high_digit_moved;
  static int64_t bytes(int64_t n) { return n * static_cast<int64_t>(sizeof(C) + 11); }
  SortMemory(void* memory, int64_t n) : times(static_cast<C*>(memory)) {
    order = reinterpret_cast<int32_t*>(times + n);
    places = order + n;
    low_digit = reinterpret_cast<uint8_t*>(places + n);
    high_digit = low_digit + n;
    high_digit_moved = high_digit + n;
  }
};

// Range of all delays, or of the input times of a sample.
template <class C>
struct Range {
  C low, high;
};

template <class C>
Range<C> delay_range(const SpikePropEvents& a) {
  const C* delays = static_cast<const C*>(a.delays);
  Range<C> r = {kInfinity<C>, -kInfinity<C>};
  for (int64_t k = 0; k < (a.delay_stride ? a.N : a.K); k++)
    r.low = delays[k] < r.low ? delays[k] : r.low, r.high = delays[k] > r.high ? delays[k] : r.high;
  return r;
}

// Errors in the input of a sample, and the range of its times up to t_max.
template <class C>
Range<C> input_range(const SpikePropEvents& a, const C* t_in, int32_t* problems) {
  constexpr int kChains = 8;
  const C end = static_cast<C>(a.t_max);
  C low[kChains], high[kChains];
  int32_t bad[kChains] = {}, late[kChains] = {};
  for (int k = 0; k < kChains; k++) low[k] = kInfinity<C>, high[k] = -kInfinity<C>;
  for (int64_t i = 0; i < a.I; i += kChains) {
    const int64_t width = min(a.I - i, kChains);
    for (int64_t k = 0; k < width; k++) {
      const C t = t_in[i + k];
      bad[k] |= !(t >= 0);
      late[k] |= t > end && t < kInfinity<C>;
      low[k] = t < low[k] ? t : low[k];
      high[k] = t > high[k] && t <= end ? t : high[k];
    }
  }
  for (int k = 1; k < kChains; k++) {
    bad[0] |= bad[k], late[0] |= late[k];
    low[0] = low[k] < low[0] ? low[k] : low[0], high[0] = high[k] > high[0] ? high[k] : high[0];
  }
  *problems = (bad[0] ? kBadInput : 0) | (late[0] ? kLateInput : 0);
  return {low[0], high[0]};
}

// Lists the events of sample b up to t_max, in order of their numbers; returns their number.
template <class C>
int64_t list_events(const SpikePropEvents& a, const C* t_in, C last_delay, const SortMemory<C>& m) {
  const C* delays = static_cast<const C*>(a.delays);
  const C end = static_cast<C>(a.t_max);
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
    const int32_t number = static_cast<int32_t>(i * a.K);
    if (t_in[i] + last_delay <= end) {
#pragma omp simd
      for (int64_t k = 0; k < a.K; k++)
        m.times[n + k] = t_in[i] + d[k], m.order[n + k] = number + static_cast<int32_t>(k);
      n += a.K;
    } else {
      for (int64_t k = 0; k < a.K; k++) {
        const C t = t_in[i] + d[k];
        m.times[n] = t, m.order[n] = number + static_cast<int32_t>(k);
        n += t <= end;
      }
    }
  }
  return n;
}

inline void starts_of_digits(int32_t* counts) {
  int32_t start = 0;
  for (int d = 0; d < kDigits; d++) {
    const int32_t count = counts[d];
    counts[d] = start;
    start += count;
  }
}

// Stable: by the two digits of 16-bit times, then by insertion, which has almost nothing to do unless times crowd
// together. Ties have the same digits and keep their order. If insertion takes too long, merge sort takes over.
template <class C>
void sort_events(int64_t n, C low, C high, const SortMemory<C>& m, C* times, int32_t* order) {
  if (n == 0) return;
  int32_t by_low[kDigits] = {}, by_high[kDigits] = {};
  const C scale = high > low ? C(65535) / (high - low) : C(0);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const int32_t key = static_cast<int32_t>((m.times[i] - low) * scale), bounded = key < 0       ? 0
                                                                                    : key > 65535 ? 65535
                                                                                                  : key;
    m.low_digit[i] = static_cast<uint8_t>(bounded & 255), m.high_digit[i] = static_cast<uint8_t>(bounded >> 8);
  }
  for (int64_t i = 0; i < n; i++) by_low[m.low_digit[i]]++, by_high[m.high_digit[i]]++;
  starts_of_digits(by_low);
  starts_of_digits(by_high);
  for (int64_t i = 0; i < n; i++) {
    const int32_t to = by_low[m.low_digit[i]]++;
    m.places[to] = static_cast<int32_t>(i), m.high_digit_moved[to] = m.high_digit[i];
  }
  // Ties are consecutive now, and each would wait for the count that the one before has written.
  int32_t to = 0, last = -1;
  for (int64_t i = 0; i < n; i++) {
    const int32_t digit = m.high_digit_moved[i], from = m.places[i];
    to = digit == last ? to + 1 : by_high[digit];
    by_high[digit] = to + 1;
    last = digit;
    times[to] = m.times[from], order[to] = m.order[from];
  }
  int64_t budget = 8 * n;
  for (int64_t i = 1; i < n; i++) {
    const C t = times[i];
    if (__builtin_expect(!(times[i - 1] > t), 1)) continue;
    const int32_t o = order[i];
    int64_t j = i;
    for (; j > 0 && times[j - 1] > t; j--) times[j] = times[j - 1], order[j] = order[j - 1];
    times[j] = t, order[j] = o;
    budget -= i - j;
    if (budget < 0) return merge_sort(n, times, order, m.times, m.order);
  }
}

// ---- intervals

// Intervals of one sample: interval g begins with the simultaneous events [end[g - 1], end[g]) and ends at the next
// event or at t_max.
template <class C>
struct Intervals {
  C *length, *decay, *bound, *begin;
  int32_t *end, *of_event;  // of_event: interval that begins with an event

  static int64_t bytes(int64_t n) { return (n + 16) * static_cast<int64_t>(4 * sizeof(C) + 8); }
  Intervals(char* memory, int64_t n, int64_t b) {
    char* base = memory + b * bytes(n);
    length = reinterpret_cast<C*>(base);
    decay = length + n + 16;
    bound = decay + n + 16;
    begin = bound + n + 16;
    end = reinterpret_cast<int32_t*>(begin + n + 16);
    of_event = end + n + 16;
  }
};

template <bool kOfEvents, class C>
int64_t find_intervals(const SpikePropEvents& a, int64_t b, const Intervals<C>& v) {
  const C* times = static_cast<const C*>(a.times) + b * a.N;
  const int64_t n = a.counts[2 * b];
  int64_t count = 0;
  for (int64_t e = 0; e < n; e++) {
    v.begin[count] = times[e];
    if constexpr (kOfEvents) v.of_event[e] = static_cast<int32_t>(count);
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

// Points k dt of one sample: the time, the time since the last event, and the decay since.
template <class C>
struct Grid {
  C *time, *after, *decay;
  int32_t* end;  // [intervals]: first point after the interval

  static int64_t bytes(int64_t n, int64_t points) {
    return points ? (points * static_cast<int64_t>(3 * sizeof(C)) + n * 4 + 63) / 64 * 64 : 0;
  }
  Grid(char* memory, int64_t n, int64_t points, int64_t b) {
    time = reinterpret_cast<C*>(memory + b * bytes(n, points));
    after = time + points;
    decay = after + points;
    end = reinterpret_cast<int32_t*>(decay + points);
  }
};

// Returns the first point after the first event. An event has no effect yet at a point of the same time.
template <class C>
int64_t find_grid(const SpikePropEvents& a, const Intervals<C>& v, int64_t intervals, const Grid<C>& grid) {
  if (intervals == 0) return 0;
  for (int64_t k = 0; k < a.grid_points; k++) grid.time[k] = static_cast<C>(static_cast<double>(k) * a.dt);
  int64_t first = 0;
  while (first < a.grid_points && grid.time[first] <= v.begin[0]) first++;
  int64_t k = first;
  for (int64_t g = 0; g < intervals; g++) {
    for (; k < a.grid_points && (g + 1 == intervals || grid.time[k] <= v.begin[g + 1]); k++)
      grid.after[k] = grid.time[k] - v.begin[g];
    grid.end[g] = static_cast<int32_t>(k);
  }
  const C inverse_tau = static_cast<C>(1 / spikeprop_tau<C>(a));
#pragma omp simd
  for (k = first; k < a.grid_points; k++) grid.decay[k] = exp_nonpositive(-grid.after[k] * inverse_tau);
  return first;
}

// ---- memory of a call

// Neurons of a block: a cache line of weights for few of them, else two.
template <class C>
inline int64_t lanes_of(int64_t neurons) {
  const int64_t line = 64 / static_cast<int64_t>(sizeof(C));
  return neurons <= line ? line : 2 * line;
}

// Few blocks of neurons leave threads idle, so the sum over samples is split into pieces; their number does not depend
// on the number of threads, so that the sum is always the same.
inline int64_t pieces_of(int64_t blocks, int64_t samples) {
  const int64_t wanted = blocks >= 8 ? 1 : 8 / blocks, most = (samples + 15) / 16;
  return max(min(wanted, most), 1);
}

template <class C>
struct SpikePropMemory {
  int64_t lanes, blocks, pieces;
  char *intervals, *grid;
  int32_t *counts, *first_points,
      *problems;   // [B]: intervals, points of the grid up to the first event, SpikePropStatus
  uint8_t* used;   // [N]: whether any sample has the event
  C* packed;       // [blocks, N, lanes]: weights
  C* sums;         // [blocks, pieces, N, lanes]: gradients of the weights
  C* by_event;     // [B, N]: gradients of the times of events, unsorted
  double* by_tau;  // [B]
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
