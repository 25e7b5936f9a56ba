// The events of a sample in order of time, and a neuron between two of them.
#pragma once
#include <cmath>

#include "core/arena.h"
#include "core/spikeprop.h"
#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kRows = 8;                    // neurons a thread sums the gradients of
constexpr int64_t kMany = 64;               // neurons from which each has a thread, not a warp
constexpr int64_t kSharedSort = 40 * 1024;  // bytes up to which a sample is sorted in shared memory

template <class C>
struct Workspace {
  C *keys, *transposed, *time_of, *weight, *by_event, *by_tau;
  int32_t *key_numbers, *problems, *rank, *kink;
  int64_t padded, bytes;

  Workspace(const SpikePropEvents& a, bool backward, void* memory) {
    Arena arena(static_cast<char*>(memory));
    padded = 1;
    while (padded < a.N) padded *= 2;
    const int64_t forward = backward ? 0 : 1, terminals = backward ? a.B * a.N : 0, neurons = backward ? a.B * a.O : 0;
    const int64_t sorted = in_shared() ? 0 : forward * a.B * padded;
    keys = arena.take<C>(sorted);
    key_numbers = arena.take<int32_t>(sorted);
    transposed = arena.take<C>(a.O >= kMany ? forward * a.N * a.O : 0);
    problems = arena.take<int32_t>(forward * a.B);
    time_of = arena.take<C>(terminals), rank = arena.take<int32_t>(terminals);
    by_event = arena.take<C>(terminals), by_tau = arena.take<C>(terminals);
    weight = arena.take<C>(neurons), kink = arena.take<int32_t>(neurons);
    bytes = arena.used();
  }
  int64_t sort_bytes() const { return padded * static_cast<int64_t>(sizeof(C) + sizeof(int32_t)); }
  bool in_shared() const { return sort_bytes() <= kSharedSort; }
};

template <class C>
__device__ C infinity() {
  return static_cast<C>(INFINITY);
}

inline unsigned blocks_of(int64_t n, int64_t size) { return static_cast<unsigned>((n + size - 1) / size); }

// ---- sorting

// By time, then by number; a bitonic network, `padded` a power of two.
template <class C>
__device__ void sort_block(C* times, int32_t* numbers, int64_t padded) {
  for (int64_t size = 2; size <= padded; size *= 2) {
    for (int64_t stride = size / 2; stride > 0; stride /= 2) {
      __syncthreads();
      for (int64_t i = threadIdx.x; i < padded; i += kThreads) {
        const int64_t j = i ^ stride;
        if (j < i) continue;
        const bool after = times[i] > times[j] || (times[i] == times[j] && numbers[i] > numbers[j]);
        if (after != ((i & size) == 0)) continue;
        const C time = times[i];
        const int32_t number = numbers[i];
        times[i] = times[j], numbers[i] = numbers[j];
        times[j] = time, numbers[j] = number;
      }
    }
  }
  __syncthreads();
}

template <class C>
__global__ void __launch_bounds__(kThreads) spikeprop_sort_kernel(const SpikePropEvents a, const Workspace<C> m, bool in_shared) {
  SNNFAST_DYN_SHARED(C, shared);
  const int64_t b = blockIdx.x;
  C* keys = in_shared ? shared : m.keys + b * m.padded;
  int32_t* numbers = in_shared ? reinterpret_cast<int32_t*>(shared + m.padded) : m.key_numbers + b * m.padded;
  const C* t_in = static_cast<const C*>(a.t_in) + b * a.I;
  const C* delays = static_cast<const C*>(a.delays);
  const C end = static_cast<C>(a.t_max);
  int bad = 0, late = 0;
  for (int64_t i = threadIdx.x; i < a.I; i += kThreads) bad |= !(t_in[i] >= 0), late |= t_in[i] > end && t_in[i] < infinity<C>();
  bad = __syncthreads_or(bad);
  late = __syncthreads_or(late);
  if (threadIdx.x == 0) m.problems[b] = (bad ? kBadInput : 0) | (late ? kLateInput : 0);
  for (int64_t n = threadIdx.x; n < m.padded; n += kThreads) {
    C time = infinity<C>();
    if (n < a.N) {
      const C t = t_in[n / a.K] + delays[n / a.K * a.delay_stride + n % a.K];
      if (t <= end) time = t;
    }
    keys[n] = time, numbers[n] = static_cast<int32_t>(n);
  }
  sort_block(keys, numbers, m.padded);
  C* times = static_cast<C*>(a.times) + b * a.N;
  int32_t* order = a.order + b * a.N;
  int32_t count = 0, kept = 0;
  for (int64_t n0 = 0; n0 < a.N; n0 += kThreads) {
    const int64_t n = n0 + threadIdx.x;
    const C time = n < a.N ? keys[n] : infinity<C>();
    if (n < a.N) times[n] = time, order[n] = time <= end ? numbers[n] : -1;
    kept += __syncthreads_count(time <= end);
    count += __syncthreads_count(time < end);
  }
  if (threadIdx.x == 0) a.counts[2 * b] = count, a.counts[2 * b + 1] = kept;
}

// ---- one event and one neuron

// The interval from event e to the next; of events at one time all but the last have none, and bounds that nothing reaches.
template <class C>
struct Event {
  C time, end, length, decay, bound;
  int32_t number, first_point, last_point;
};

template <class C>
__device__ int32_t first_point_from(const SpikePropEvents& a, C time) {
  int64_t low = 0, high = a.grid_points;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (static_cast<C>(static_cast<double>(middle) * a.dt) < time)
      low = middle + 1;
    else
      high = middle;
  }
  return static_cast<int32_t>(low);
}

template <class C>
__device__ Event<C> event_of(const SpikePropEvents& a, int64_t b, int64_t e, int64_t n, double inverse_tau, double threshold) {
  const C* times = static_cast<const C*>(a.times) + b * a.N;
  Event<C> event;
  event.time = times[e];
  event.end = e + 1 < n ? times[e + 1] : static_cast<C>(a.t_max);
  event.number = a.order[b * a.N + e];
  const double length = static_cast<double>(event.end) - static_cast<double>(event.time);
  event.length = static_cast<C>(length);
  event.decay = static_cast<C>(exp_nonpositive(-length * inverse_tau));
  event.bound = length > 0 ? spikeprop_bound<C>(length, inverse_tau, threshold) : infinity<C>();
  event.first_point = event.last_point = 0;
  if (a.grid_points) {
    event.first_point = first_point_from(a, event.time);
    event.last_point = e + 1 < n ? first_point_from(a, event.end) : static_cast<int32_t>(a.grid_points);
  }
  return event;
}

// Where a neuron fires or, while it has not, its largest potential: the last of equal ones.
template <class C>
struct Found {
  bool fired = false;
  C q = 0, p = 0, after = 0, time = 0, largest = 0, slope = 0;
  int32_t before = 0;

  __device__ void set(C q_, C p_, C after_, C time_, int64_t e) { q = q_, p = p_, after = after_, time = time_, before = static_cast<int32_t>(e + 1); }
};

// Looks at the interval that event e begins, with q and p after the event; returns whether the neuron fires in it.
template <class C, bool kPeak>
__device__ bool examine(const SpikePropEvents& a, const SpikePropConstants<C>& c, const Event<C>& event, int64_t e, C q, C p, Found<C>& f) {
  for (int32_t k = event.first_point; k < event.last_point; k++) {
    const C time = static_cast<C>(static_cast<double>(k) * a.dt), after = time - event.time;
    const C u = (q + p * after) * exp_nonpositive(-after * c.inverse_tau);
    f.fired = u >= c.threshold;
    if (f.fired || (kPeak && u > 0 && u >= f.largest)) {
      f.set(q, p, after, time, e);
      f.largest = u;
      f.slope = spikeprop_slope(q, p, after, c.inverse_tau) * c.scale;
    }
    if (f.fired) return true;
  }
  if (a.grid_points) return false;
  const C u = q + p * event.length;
  if (u >= event.bound) {
    const C top = p > 0 ? spikeprop_top(q, p, event.length, c.tau) : C(0);
    f.fired = u * event.decay >= c.threshold || (top > 0 && spikeprop_potential(q, p, top, c.inverse_tau) >= c.threshold);
    if (f.fired) {
      f.set(q, p, 0, event.time, e);
      return true;
    }
  }
  if (!kPeak || !(p * c.tau > (q > 0 ? q : C(0)))) return false;
  const C top = spikeprop_top(q, p, event.length, c.tau);
  const bool inside = top < event.length;
  const C value = inside ? spikeprop_potential(q, p, top, c.inverse_tau) : u * event.decay;
  if (value > 0 && value >= f.largest) {
    f.set(q, p, top, inside ? event.time + top : event.end, e);
    f.largest = value;
    f.slope = inside ? C(0) : spikeprop_slope(q, p, top, c.inverse_tau) * c.scale;
  }
  return false;
}

template <class C>
__device__ void solve(const SpikePropEvents& a, const SpikePropConstants<C>& c, C length, Found<C>& f) {
  if (a.grid_points) return;
  const C top = f.q < c.threshold ? spikeprop_top(f.q, f.p, length, c.tau) : C(0);
  for (int step = 0; step < kSpikePropSteps; step++) {
    const C next = spikeprop_newton(f.q, f.p, f.after, top, c), moved = next - f.after;
    f.after = next;
    if (!(moved > kSpikePropRounding<C> * (f.time + next))) break;
  }
  f.time += f.after;
  f.slope = spikeprop_slope(f.q, f.p, f.after, c.inverse_tau) * c.scale;
}

template <class C>
__device__ void write(const SpikePropForward& a, const SpikePropConstants<C>& c, int64_t i, const Found<C>& f) {
  static_cast<C*>(a.t_out)[i] = f.fired ? f.time : infinity<C>();
  static_cast<C*>(a.slope)[i] = f.fired || a.events.return_u_max ? f.slope : infinity<C>();
  a.before[i] = f.before;
  if (!a.events.return_u_max) return;
  static_cast<C*>(a.u_max)[i] = f.fired ? static_cast<C>(a.events.v_threshold) : f.largest * c.scale;
  static_cast<C*>(a.time)[i] = f.time;
}

}  // namespace
}  // namespace snnfast
