// The events of a sample in order of time, and a neuron between two of them.
#pragma once
#include <cmath>
#include <cstring>

#include "core/arena.h"
#include "core/spikeprop.h"
#include "cuda/launch.h"

namespace snnfast {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kRows = 8;       // neurons whose gradients a thread sums
constexpr int64_t kMany = 64;  // number of neurons from which each has a thread, not a warp
#ifdef SNNFAST_CUDA_EMULATION
constexpr int64_t kSharedSort = 4 * 1024;
#else
constexpr int64_t kSharedSort = 40 * 1024;  // bytes up to which a sample is sorted in shared memory
#endif

template <class C>
struct Workspace {
  char* sorting;  // [B, sort_bytes()], or null if it is in shared memory
  C *transposed, *time_of, *weight, *by_event, *by_tau;
  int32_t *problems, *rank, *kink;
  int64_t N, bytes;

  Workspace(const SpikePropEvents& a, bool backward, void* memory) {
    Arena arena(static_cast<char*>(memory));
    N = a.N;
    const int64_t forward = backward ? 0 : 1, terminals = backward ? a.B * a.N : 0, neurons = backward ? a.B * a.O : 0;
    const int64_t sorted = in_shared() ? 0 : forward * a.B * sort_bytes();
    sorting = arena.take<char>(sorted);
    transposed = arena.take<C>(a.O >= kMany ? forward * a.N * a.O : 0);
    problems = arena.take<int32_t>(forward * a.B);
    time_of = arena.take<C>(terminals), rank = arena.take<int32_t>(terminals);
    by_event = arena.take<C>(terminals), by_tau = arena.take<C>(terminals);
    weight = arena.take<C>(neurons), kink = arena.take<int32_t>(neurons);
    bytes = arena.used();
  }
  // Keys and numbers, twice.
  SNNFAST_HD int64_t sort_bytes() const {
    return (2 * N * static_cast<int64_t>(sizeof(C) + sizeof(int32_t)) + 7) / 8 * 8;
  }
  bool in_shared() const { return sort_bytes() <= kSharedSort; }
};

template <class C>
__device__ C infinity() {
  return static_cast<C>(INFINITY);
}

// ---- sorting

constexpr int kSortThreads = 512;  // of a block that sorts in global memory
constexpr int kDigit = 8, kDigits = 1 << kDigit;
constexpr int kTogether = 4;  // events of a thread whose loads are in flight together

// Times as unsigned numbers in the same order.
template <size_t Bytes>
struct Order;
template <>
struct Order<4> {
  using Key = uint32_t;
};
template <>
struct Order<8> {
  using Key = uint64_t;
};
template <class C>
using Key = typename Order<sizeof(C)>::Key;
template <class C>
constexpr Key<C> kSign = Key<C>(1) << (8 * sizeof(C) - 1);

template <class C>
__device__ Key<C> key_of(C time) {
  if (time == 0) time = 0;  // -0 is 0
  Key<C> key;
  memcpy(&key, &time, sizeof key);
  return key & kSign<C> ? ~key : key | kSign<C>;
}
template <class C>
__device__ C time_of_key(Key<C> key) {
  key = key & kSign<C> ? key ^ kSign<C> : ~key;
  C time;
  memcpy(&time, &key, sizeof time);
  return time;
}

// By all threads: replaces each counter by the sum of those before it. There are kDigits per warp, so a thread has some
// consecutive ones.
__device__ inline void sum_before(uint32_t* counters, uint32_t* warp_sums) {
  constexpr int kPerLane = kDigits / 32;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint32_t* mine = counters + threadIdx.x * kPerLane;
  uint32_t total = 0;
  for (int k = 0; k < kPerLane; k++) total += mine[k];
  uint32_t sum = total;
  for (int distance = 1; distance < 32; distance *= 2) {
    const uint32_t other = __shfl_up_sync(~0u, sum, distance);
    if (lane >= distance) sum += other;
  }
  if (lane == 31) warp_sums[warp] = sum;
  __syncthreads();
  uint32_t before = sum - total;
  for (int w = 0; w < warp; w++) before += warp_sums[w];
  for (int k = 0; k < kPerLane; k++) {
    const uint32_t count = mine[k];
    mine[k] = before;
    before += count;
  }
}

// Radix sort by keys, one digit per pass; stable, so equal keys stay in the order of their numbers. A warp has
// consecutive events; counters[digit * warps + warp] is first its number of events with the digit, then the destination
// of the next one. The number of passes is even, so the result is in the input arrays.
template <class K>
__device__ void sort_block(K* keys, int32_t* numbers, K* keys_out, int32_t* numbers_out, int64_t N, uint32_t* counters,
                           uint32_t* warp_sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const int64_t per_warp = (N + blockDim.x - 1) / blockDim.x * 32, begin = warp * per_warp,
                end = min(begin + per_warp, N);
  for (int shift = 0; shift < 8 * static_cast<int>(sizeof(K)); shift += kDigit) {
    for (int k = threadIdx.x; k < kDigits * warps; k += blockDim.x) counters[k] = 0;
    __syncthreads();
    const auto counter = [&](uint32_t digit) -> uint32_t& { return counters[digit * warps + warp]; };
    for (int64_t n = begin + lane; n < end; n += 32) atomicAdd(&counter(keys[n] >> shift & (kDigits - 1)), 1u);
    __syncthreads();
    sum_before(counters, warp_sums);
    __syncthreads();
    for (int64_t n0 = begin; n0 < end; n0 += 32 * kTogether) {
      K key[kTogether];
      int32_t number[kTogether];
#pragma unroll
      for (int k = 0; k < kTogether; k++) {
        const int64_t n = n0 + 32 * k + lane;
        key[k] = n < end ? keys[n] : 0;
        number[k] = n < end ? numbers[n] : 0;
      }
#pragma unroll
      for (int k = 0; k < kTogether; k++) {
        const bool valid = n0 + 32 * k + lane < end;
        const uint32_t digit = key[k] >> shift & (kDigits - 1);
        uint32_t same = __ballot_sync(~0u, valid);  // lanes with this digit
#pragma unroll
        for (int bit = 0; bit < kDigit; bit++) {
          const uint32_t set = __ballot_sync(~0u, digit >> bit & 1);
          same &= digit >> bit & 1 ? set : ~set;
        }
        const int before = __popc(same & ((1u << lane) - 1));
        const uint32_t at = valid ? counter(digit) + before : 0;
        __syncwarp();
        if (valid && before == 0) counter(digit) += __popc(same);
        __syncwarp();
        if (valid) keys_out[at] = key[k], numbers_out[at] = number[k];
      }
    }
    __syncthreads();
    K* const sorted = keys_out;
    keys_out = keys, keys = sorted;
    int32_t* const sorted_numbers = numbers_out;
    numbers_out = numbers, numbers = sorted_numbers;
  }
}

template <class C, bool kInShared>
__global__ void __launch_bounds__(kSortThreads) spikeprop_sort_kernel(const SpikePropEvents a, const Workspace<C> m) {
  SNNFAST_DYN_SHARED(uint32_t, counters);
  __shared__ uint32_t warp_sums[kSortThreads / 32];
  __shared__ int32_t found[2];
  const int64_t b = blockIdx.x;
  Key<C>* keys = reinterpret_cast<Key<C>*>(kInShared ? reinterpret_cast<char*>(counters + kDigits / 32 * blockDim.x)
                                                     : m.sorting + b * m.sort_bytes());
  int32_t* numbers = reinterpret_cast<int32_t*>(keys + 2 * a.N);
  const C* t_in = static_cast<const C*>(a.t_in) + b * a.I;
  const C* delays = static_cast<const C*>(a.delays);
  const C end = static_cast<C>(a.t_max);
  int bad = 0, late = 0;
  for (int64_t i = threadIdx.x; i < a.I; i += blockDim.x)
    bad |= !(t_in[i] >= 0), late |= t_in[i] > end && t_in[i] < infinity<C>();
  if (threadIdx.x < 2) found[threadIdx.x] = 0;
  bad = __syncthreads_or(bad);
  late = __syncthreads_or(late);
  if (threadIdx.x == 0) m.problems[b] = (bad ? kBadInput : 0) | (late ? kLateInput : 0);
  int32_t count = 0, stored = 0;
  for (int64_t n = threadIdx.x; n < a.N; n += blockDim.x) {
    const C t = t_in[n / a.K] + delays[n / a.K * a.delay_stride + n % a.K];
    count += t < end, stored += t <= end;
    keys[n] = key_of(t <= end ? t : infinity<C>()), numbers[n] = static_cast<int32_t>(n);
  }
  atomicAdd(&found[0], count);
  atomicAdd(&found[1], stored);
  sort_block(keys, numbers, keys + a.N, numbers + a.N, a.N, counters, warp_sums);
  C* times = static_cast<C*>(a.times) + b * a.N;
  int32_t* order = a.order + b * a.N;
  for (int64_t n = threadIdx.x; n < a.N; n += blockDim.x)
    times[n] = time_of_key<C>(keys[n]), order[n] = n < found[1] ? numbers[n] : -1;
  if (threadIdx.x < 2) a.counts[2 * b + threadIdx.x] = found[threadIdx.x];
}

// ---- one event and one neuron

// Interval from event e to the next. Of simultaneous events, all but the last have none, and bounds that nothing
// reaches.
template <class C>
struct Event {
  C time, end, length, decay, bound;
  int32_t number, first_point, last_point;
};

// First point of the grid after a time: an event has no effect yet at its time.
template <class C>
__device__ int32_t first_point_behind(const SpikePropEvents& a, C time) {
  int64_t low = 0, high = a.grid_points;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (static_cast<C>(static_cast<double>(middle) * a.dt) <= time)
      low = middle + 1;
    else
      high = middle;
  }
  return static_cast<int32_t>(low);
}

template <class C>
__device__ Event<C> event_of(const SpikePropEvents& a, int64_t b, int64_t e, int64_t n, double inverse_tau,
                             double threshold) {
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
    event.first_point = first_point_behind(a, event.time);
    event.last_point = e + 1 < n ? first_point_behind(a, event.end) : static_cast<int32_t>(a.grid_points);
  }
  return event;
}

// Where a neuron fires or, until then, its largest potential: the last of equal ones.
template <class C>
struct Found {
  bool fired = false;
  C q = 0, p = 0, after = 0, time = 0, largest = 0, slope = 0;
  int32_t before = 0;

  __device__ void set(C q_, C p_, C after_, C time_, int64_t e) {
    q = q_, p = p_, after = after_, time = time_, before = static_cast<int32_t>(e + 1);
  }
};

// Examines the interval that begins with event e, with q and p after the event; returns whether the neuron fires in it.
template <class C, bool kPeak>
__device__ bool examine(const SpikePropEvents& a, const SpikePropConstants<C>& c, const Event<C>& event, int64_t e, C q,
                        C p, Found<C>& f) {
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
    f.fired =
        u * event.decay >= c.threshold || (top > 0 && spikeprop_potential(q, p, top, c.inverse_tau) >= c.threshold);
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
