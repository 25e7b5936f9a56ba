// Forward: a block sorts the events of a sample; then a thread a neuron goes through them, or, for few neurons, a warp scans
// them, its lanes the events. Backward: every term of every sum has a closed form, so threads are weights and events and go
// through samples and neurons in order, without atomics.
#include "core/spikeprop.h"

#include <cmath>

#include "core/arena.h"
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

// ---- many neurons

constexpr int kTile = 32;

template <class C>
__global__ void __launch_bounds__(kTile* kRows) spikeprop_transpose_kernel(const C* w, C* transposed, int64_t N, int64_t O) {
  __shared__ C tile[kTile][kTile + 1];
  const int64_t n0 = static_cast<int64_t>(blockIdx.x) * kTile, x = threadIdx.x % kTile, y = threadIdx.x / kTile;
  for (int64_t j0 = static_cast<int64_t>(blockIdx.y) * kTile; j0 < O; j0 += static_cast<int64_t>(gridDim.y) * kTile) {
    for (int64_t r = y; r < kTile; r += kRows)
      if (j0 + r < O && n0 + x < N) tile[r][x] = w[(j0 + r) * N + n0 + x];
    __syncthreads();
    for (int64_t r = y; r < kTile; r += kRows)
      if (n0 + r < N && j0 + x < O) transposed[(n0 + r) * O + j0 + x] = tile[x][r];
    __syncthreads();
  }
}

template <class C, bool kPeak>
__global__ void __launch_bounds__(kThreads) spikeprop_fire_many_kernel(const SpikePropForward a, const C* transposed) {
  __shared__ Event<C> events[kThreads];
  const SpikePropConstants<C> c(a.events);
  const double inverse_tau = 1 / spikeprop_tau<C>(a.events), threshold = a.events.v_threshold * spikeprop_tau<C>(a.events) / kEuler;
  const int64_t O = a.events.O, b = blockIdx.x, n = a.events.counts[2 * b];
  for (int64_t j0 = static_cast<int64_t>(blockIdx.y) * kThreads; j0 < O; j0 += static_cast<int64_t>(gridDim.y) * kThreads) {
    const int64_t j = j0 + threadIdx.x;
    Found<C> f;
    C q = 0, p = 0, length = 0;
    bool done = j >= O;
    for (int64_t e0 = 0; e0 < n; e0 += kThreads) {
      if (e0 + threadIdx.x < n) events[threadIdx.x] = event_of<C>(a.events, b, e0 + threadIdx.x, n, inverse_tau, threshold);
      __syncthreads();
      const int64_t last = n - e0 < kThreads ? n - e0 : kThreads;
      for (int64_t k = 0; k < last && !done; k++) {
        const Event<C>& event = events[k];
        p += transposed[event.number * O + j];
        done = examine<C, kPeak>(a.events, c, event, e0 + k, q, p, f);
        length = event.length;
        q = (q + p * event.length) * event.decay;
        p = p * event.decay;
      }
      if (__syncthreads_and(done)) break;
    }
    if (f.fired) solve(a.events, c, length, f);
    if (j < O) write(a, c, b * O + j, f);
    __syncthreads();
  }
}

// ---- few neurons

// What a run of events does to q and p: they move over `length`, decay, and something is added.
template <class C>
struct Run {
  C length, decay, q, p;
};

template <class C>
__device__ Run<C> then(const Run<C>& first, const Run<C>& second) {
  return {first.length + second.length, first.decay * second.decay, second.decay * (first.q + first.p * second.length) + second.q,
          second.decay * first.p + second.p};
}

template <class C>
__device__ Run<C> from_lane(const Run<C>& run, int distance) {
  return {__shfl_up_sync(~0u, run.length, distance), __shfl_up_sync(~0u, run.decay, distance), __shfl_up_sync(~0u, run.q, distance),
          __shfl_up_sync(~0u, run.p, distance)};
}

template <class C, bool kPeak>
__global__ void __launch_bounds__(kThreads) spikeprop_fire_few_kernel(const SpikePropForward a) {
  const SpikePropConstants<C> c(a.events);
  const double inverse_tau = 1 / spikeprop_tau<C>(a.events), threshold = a.events.v_threshold * spikeprop_tau<C>(a.events) / kEuler;
  const int lane = threadIdx.x % 32;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (i >= a.events.B * a.events.O) return;
  const int64_t b = i / a.events.O, n = a.events.counts[2 * b];
  const C* w = static_cast<const C*>(a.w) + i % a.events.O * a.events.N;
  Found<C> f;
  C q0 = 0, p0 = 0;
  int writer = -1;
  for (int64_t e0 = 0; e0 < n && writer < 0; e0 += 32) {
    const int64_t e = e0 + lane;
    Event<C> event = {};
    C weight = 0;
    Run<C> run = {0, 1, 0, 0};
    if (e < n) {
      event = event_of<C>(a.events, b, e, n, inverse_tau, threshold);
      weight = w[event.number];
      run = {event.length, event.decay, event.decay * (weight * event.length), event.decay * weight};
    }
    for (int distance = 1; distance < 32; distance *= 2) {
      const Run<C> earlier = from_lane(run, distance);
      if (lane >= distance) run = then(earlier, run);
    }
    Run<C> before = from_lane(run, 1);
    if (lane == 0) before = {0, 1, 0, 0};
    const Run<C> start = {0, 1, q0, p0};
    const Run<C> reached = then(start, before);
    const C p = reached.p + weight, end = (reached.q + p * event.length) * event.decay;
    // Events at one time see one potential to the last bit, so that of equal ones the last counts as the largest.
    const unsigned earlier = __ballot_sync(~0u, event.length > 0) & ((1u << lane) - 1);
    const C common = __shfl_sync(~0u, end, earlier ? 31 - __clz(static_cast<int>(earlier)) : 0);
    const C q = event.length > 0 ? reached.q : earlier ? common : q0;
    const bool fires = e < n && examine<C, kPeak>(a.events, c, event, e, q, p, f);
    const unsigned firing = __ballot_sync(~0u, fires);
    if (firing) {
      writer = __ffs(static_cast<int>(firing)) - 1;
      if (lane == writer) solve(a.events, c, event.length, f);
    }
    q0 = __shfl_sync(~0u, event.length > 0 ? end : q, 31), p0 = __shfl_sync(~0u, then(start, run).p, 31);
  }
  if (writer < 0) {  // the last of the largest potentials
    C largest = f.largest;
    int32_t before = f.before;
    writer = lane;
    for (int distance = 16; distance > 0; distance /= 2) {
      const C other = __shfl_xor_sync(~0u, largest, distance);
      const int32_t other_before = __shfl_xor_sync(~0u, before, distance);
      const int other_writer = __shfl_xor_sync(~0u, writer, distance);
      const bool takes = other > largest || (other == largest && (other_before > before || (other_before == before && other_writer < writer)));
      if (takes) largest = other, before = other_before, writer = other_writer;
    }
  }
  if (lane == writer) write(a, c, i, f);
}

// One block.
template <class C>
__global__ void __launch_bounds__(kThreads) spikeprop_status_kernel(const SpikePropForward a, const int32_t* problems) {
  const SpikePropEvents& events = a.events;
  const C* delays = static_cast<const C*>(events.delays);
  const C* t_out = static_cast<const C*>(a.t_out);
  int input = 0, delay = 0, fired = 0;
  for (int64_t b = threadIdx.x; b < events.B; b += kThreads) input |= problems[b];
  for (int64_t k = threadIdx.x; k < (events.delay_stride ? events.N : events.K); k += kThreads) delay |= !(delays[k] >= 0 && delays[k] < infinity<C>());
  for (int64_t i = threadIdx.x; i < events.B * events.O && !fired; i += kThreads) fired = t_out[i] < infinity<C>();
  const int bad = __syncthreads_or(input & kBadInput), late = __syncthreads_or(input & kLateInput);
  delay = __syncthreads_or(delay);
  fired = __syncthreads_or(fired);
  if (threadIdx.x) return;
  const double tau = spikeprop_tau<C>(events);
  const bool good_tau = tau > 0 && tau < infinity<double>();
  *a.status = (bad ? kBadInput : 0) | (late ? kLateInput : 0) | (delay ? kBadDelay : 0) | (good_tau ? 0 : kBadTau) | (fired ? kFired : 0);
}

// ---- backward

// By number of the event: its time and its place in order of time.
template <class C>
__global__ void __launch_bounds__(kThreads) spikeprop_rank_kernel(const SpikePropEvents a, const Workspace<C> m) {
  const int64_t b = blockIdx.x;
  for (int64_t n = threadIdx.x; n < a.N; n += kThreads) m.rank[b * a.N + n] = INT32_MAX;
  __syncthreads();
  for (int64_t e = threadIdx.x; e < a.counts[2 * b + 1]; e += kThreads) {
    const int64_t n = b * a.N + a.order[b * a.N + e];
    m.rank[n] = static_cast<int32_t>(e), m.time_of[n] = static_cast<const C*>(a.times)[b * a.N + e];
  }
}

// What the loss asks of the potential of a neuron at its time.
template <class C>
__global__ void __launch_bounds__(kThreads) spikeprop_weight_kernel(const SpikePropBackward a, const Workspace<C> m) {
  const SpikePropEvents& events = a.events;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= events.B * events.O) return;
  const int64_t b = i / events.O;
  const int32_t before = a.before[i];
  const C guard = static_cast<C>(a.slope_min * events.v_threshold / spikeprop_tau<C>(events));
  const C slope = static_cast<const C*>(a.slope)[i];
  const bool fired = static_cast<const C*>(a.t_out)[i] < infinity<C>();
  C weight = 0;
  if (fired && a.grad_t) weight = -static_cast<const C*>(a.grad_t)[i] / (slope > guard ? slope : guard);
  if (!fired && a.grad_u && before > 0) weight = static_cast<const C*>(a.grad_u)[i];
  m.weight[i] = weight;
  m.kink[i] = -1;
  if (!fired && before > 0 && !events.grid_points && before < events.counts[2 * b + 1] &&
      static_cast<const C*>(events.times)[b * events.N + before] == static_cast<const C*>(a.time)[i])
    m.kink[i] = before;
}

template <class C>
__global__ void __launch_bounds__(kThreads) spikeprop_events_kernel(const SpikePropBackward a, const Workspace<C> m, const C* time) {
  const SpikePropEvents& events = a.events;
  const SpikePropConstants<C> c(events);
  const int64_t n = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x, b = blockIdx.x;
  if (n >= events.N) return;
  const int32_t rank = m.rank[b * events.N + n];
  C by_event = 0, by_tau = 0;
  if (rank < INT32_MAX) {
    const C start = m.time_of[b * events.N + n];
    for (int64_t j = 0; j < events.O; j++) {
      const int64_t i = b * events.O + j;
      const C weight = m.weight[i];
      if (weight == 0) continue;
      if (rank < a.before[i]) {
        const C x = (time[i] - start) * c.inverse_tau;
        const C moved = weight * static_cast<const C*>(a.w)[j * events.N + n] * (c.scale * exp_nonpositive(-x) * (1 - x));
        by_event -= moved, by_tau -= moved * x;
      } else if (rank == m.kink[i]) {
        by_event += weight * static_cast<const C*>(a.slope)[i];
      }
    }
  }
  m.by_event[b * events.N + n] = by_event, m.by_tau[b * events.N + n] = by_tau;
}

template <class C>
__global__ void __launch_bounds__(kThreads) spikeprop_weights_kernel(const SpikePropBackward a, const Workspace<C> m, const C* time) {
  const SpikePropEvents& events = a.events;
  const SpikePropConstants<C> c(events);
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n >= events.N) return;
  for (int64_t j0 = static_cast<int64_t>(blockIdx.y) * kRows; j0 < events.O; j0 += static_cast<int64_t>(gridDim.y) * kRows) {
    C sum[kRows] = {};
    for (int64_t b = 0; b < events.B; b++) {
      const int32_t rank = m.rank[b * events.N + n];
      if (rank == INT32_MAX) continue;
      const C start = m.time_of[b * events.N + n];
#pragma unroll
      for (int r = 0; r < kRows; r++) {
        if (j0 + r >= events.O) continue;
        const int64_t i = b * events.O + j0 + r;
        const C weight = m.weight[i];
        if (weight == 0 || rank >= a.before[i]) continue;
        const C s = time[i] - start;
        sum[r] += weight * (c.scale * s * exp_nonpositive(-s * c.inverse_tau));
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; r++)
      if (j0 + r < events.O) static_cast<C*>(a.grad_w)[(j0 + r) * events.N + n] = sum[r];
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads) spikeprop_inputs_kernel(const C* by_event, C* grad, int64_t count, int64_t K) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  C sum = 0;
  for (int64_t k = 0; k < K; k++) sum += by_event[i * K + k];
  grad[i] = sum;
}

// grad[d] = sum of terms[d + i stride], i < count; a block a sum, always in the same order.
template <class C>
__global__ void __launch_bounds__(kThreads) spikeprop_sum_kernel(const C* terms, C* grad, int64_t count, int64_t stride) {
  __shared__ double sums[kThreads];
  const int64_t d = blockIdx.x;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += static_cast<double>(terms[d + i * stride]);
  sums[threadIdx.x] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) grad[d] = static_cast<C>(sums[0]);
}

// ---- launches

inline unsigned rows_of(unsigned blocks) { return blocks < 65535 ? blocks : 65535; }

template <class C>
int forward(const SpikePropForward& a, void* memory, cudaStream_t stream) {
  const SpikePropEvents& events = a.events;
  const Workspace<C> m(events, false, memory);
  const unsigned B = static_cast<unsigned>(events.B);
  const size_t shared = m.in_shared() ? static_cast<size_t>(m.sort_bytes()) : 0;
  if (events.B > 0) SNNFAST_LAUNCH((spikeprop_sort_kernel<C>), B, kThreads, shared, stream, events, m, m.in_shared());
  if (events.B > 0 && events.O >= kMany) {
    const dim3 tiles(blocks_of(events.N, kTile), rows_of(blocks_of(events.O, kTile)));
    if (events.N > 0)
      SNNFAST_LAUNCH((spikeprop_transpose_kernel<C>), tiles, kTile * kRows, 0, stream, static_cast<const C*>(a.w), m.transposed, events.N, events.O);
    const dim3 grid(B, rows_of(blocks_of(events.O, kThreads)));
    if (events.return_u_max)
      SNNFAST_LAUNCH((spikeprop_fire_many_kernel<C, true>), grid, kThreads, 0, stream, a, m.transposed);
    else
      SNNFAST_LAUNCH((spikeprop_fire_many_kernel<C, false>), grid, kThreads, 0, stream, a, m.transposed);
  } else if (events.B > 0 && events.O > 0) {
    const unsigned blocks = blocks_of(events.B * events.O, kWarps);
    if (events.return_u_max)
      SNNFAST_LAUNCH((spikeprop_fire_few_kernel<C, true>), blocks, kThreads, 0, stream, a);
    else
      SNNFAST_LAUNCH((spikeprop_fire_few_kernel<C, false>), blocks, kThreads, 0, stream, a);
  }
  SNNFAST_LAUNCH((spikeprop_status_kernel<C>), 1, kThreads, 0, stream, a, m.problems);
  return cudaGetLastError();
}

template <class C>
int backward(const SpikePropBackward& a, void* memory, cudaStream_t stream) {
  const SpikePropEvents& events = a.events;
  const Workspace<C> m(events, true, memory);
  const C* time = static_cast<const C*>(events.return_u_max ? a.time : a.t_out);
  const unsigned B = static_cast<unsigned>(events.B);
  const int64_t terminals = events.B * events.N, neurons = events.B * events.O;
  if (terminals > 0) SNNFAST_LAUNCH((spikeprop_rank_kernel<C>), B, kThreads, 0, stream, events, m);
  if (neurons > 0) SNNFAST_LAUNCH((spikeprop_weight_kernel<C>), blocks_of(neurons, kThreads), kThreads, 0, stream, a, m);
  if (a.grad_w && events.N > 0 && events.O > 0) {
    const dim3 grid(blocks_of(events.N, kThreads), rows_of(blocks_of(events.O, kRows)));
    SNNFAST_LAUNCH((spikeprop_weights_kernel<C>), grid, kThreads, 0, stream, a, m, time);
  }
  if (terminals > 0 && (a.grad_t_in || a.grad_delays || a.grad_tau)) {
    const dim3 grid(B, blocks_of(events.N, kThreads));
    SNNFAST_LAUNCH((spikeprop_events_kernel<C>), grid, kThreads, 0, stream, a, m, time);
  }
  if (a.grad_t_in && events.B * events.I > 0)
    SNNFAST_LAUNCH((spikeprop_inputs_kernel<C>), blocks_of(events.B * events.I, kThreads), kThreads, 0, stream, m.by_event, static_cast<C*>(a.grad_t_in),
                   events.B * events.I, events.K);
  const auto sum = [&](const C* terms, void* grad, int64_t sums, int64_t count) {
    if (sums > 0) SNNFAST_LAUNCH((spikeprop_sum_kernel<C>), static_cast<unsigned>(sums), kThreads, 0, stream, terms, static_cast<C*>(grad), count, sums);
  };
  if (a.grad_delays) {
    const int64_t delays = events.delay_stride ? events.N : events.K;
    sum(m.by_event, a.grad_delays, delays, terminals / (delays > 0 ? delays : 1));
  }
  if (a.grad_tau) sum(m.by_tau, a.grad_tau, 1, terminals);
  return cudaGetLastError();
}

}  // namespace

int64_t spikeprop_workspace(const SpikePropEvents& a, bool backward) {
  return a.is_double ? Workspace<double>(a, backward, nullptr).bytes : Workspace<float>(a, backward, nullptr).bytes;
}

int launch_spikeprop_forward(const SpikePropForward& a, void* workspace, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  return a.events.is_double ? forward<double>(a, workspace, stream) : forward<float>(a, workspace, stream);
}

int launch_spikeprop_backward(const SpikePropBackward& a, void* workspace, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  return a.events.is_double ? backward<double>(a, workspace, stream) : backward<float>(a, workspace, stream);
}

}  // namespace snnfast
