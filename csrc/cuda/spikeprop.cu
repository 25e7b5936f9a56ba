// A block sorts the events of a sample. Then one thread per neuron goes through them, or, for few neurons, a warp scans
// them, one event per lane.
#include "cuda/spikeprop_backward.cuh"
#include "cuda/spikeprop_events.cuh"

namespace snnfast {
namespace {

// ---- many neurons

constexpr int kTile = 32;
constexpr int kWeights = 8;  // of a neuron, in flight together

template <class C>
__global__ void __launch_bounds__(kTile* kRows)
    spikeprop_transpose_kernel(const C* w, C* transposed, int64_t N, int64_t O) {
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
  __shared__ C weights[kWeights][kThreads];  // one column per thread
  const SpikePropConstants<C> c(a.events);
  const double inverse_tau = 1 / spikeprop_tau<C>(a.events),
               threshold = a.events.v_threshold * spikeprop_tau<C>(a.events) / kEuler;
  const int64_t O = a.events.O, b = blockIdx.x, n = a.events.counts[2 * b];
  for (int64_t j0 = static_cast<int64_t>(blockIdx.y) * kThreads; j0 < O;
       j0 += static_cast<int64_t>(gridDim.y) * kThreads) {
    const int64_t j = j0 + threadIdx.x;
    Found<C> f;
    C q = 0, p = 0, length = 0;
    bool done = j >= O;
    for (int64_t e0 = 0; e0 < n; e0 += kThreads) {
      if (e0 + threadIdx.x < n)
        events[threadIdx.x] = event_of<C>(a.events, b, e0 + threadIdx.x, n, inverse_tau, threshold);
      else
        events[threadIdx.x].number = 0;  // its weight is loaded, but not used
      __syncthreads();
      const int64_t last = min(n - e0, kThreads);
      for (int64_t k = 0; k < last && !done; k++) {
        const Event<C>& event = events[k];
        if (k % kWeights == 0) {
          C coming[kWeights];
#pragma unroll
          for (int ahead = 0; ahead < kWeights; ahead++) coming[ahead] = transposed[events[k + ahead].number * O + j];
#pragma unroll
          for (int ahead = 0; ahead < kWeights; ahead++) weights[ahead][threadIdx.x] = coming[ahead];
        }
        p += weights[k % kWeights][threadIdx.x];
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

// Effect of a run of events on q and p: a shift over `length`, a decay, and an added term.
template <class C>
struct Run {
  C length, decay, q, p;
};

template <class C>
__device__ Run<C> then(const Run<C>& first, const Run<C>& second) {
  return {first.length + second.length, first.decay * second.decay,
          second.decay * (first.q + first.p * second.length) + second.q, second.decay * first.p + second.p};
}

template <class C>
__device__ Run<C> from_lane(const Run<C>& run, int distance) {
  return {__shfl_up_sync(~0u, run.length, distance), __shfl_up_sync(~0u, run.decay, distance),
          __shfl_up_sync(~0u, run.q, distance), __shfl_up_sync(~0u, run.p, distance)};
}

template <class C, bool kPeak>
__global__ void __launch_bounds__(kThreads) spikeprop_fire_few_kernel(const SpikePropForward a) {
  const SpikePropConstants<C> c(a.events);
  const double inverse_tau = 1 / spikeprop_tau<C>(a.events),
               threshold = a.events.v_threshold * spikeprop_tau<C>(a.events) / kEuler;
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
    // Simultaneous events see the same potential to the last bit, so that of equal ones the last counts as the largest.
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
      const bool takes =
          other > largest ||
          (other == largest && (other_before > before || (other_before == before && other_writer < writer)));
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
  for (int64_t k = threadIdx.x; k < (events.delay_stride ? events.N : events.K); k += kThreads)
    delay |= !(delays[k] >= 0 && delays[k] < infinity<C>());
  for (int64_t i = threadIdx.x; i < events.B * events.O && !fired; i += kThreads) fired = t_out[i] < infinity<C>();
  const int bad = __syncthreads_or(input & kBadInput);
  const int late = __syncthreads_or(input & kLateInput);
  delay = __syncthreads_or(delay);
  fired = __syncthreads_or(fired);
  if (threadIdx.x) return;
  const double tau = spikeprop_tau<C>(events);
  const bool good_tau = tau > 0 && tau < infinity<double>();
  *a.status = (bad ? kBadInput : 0) | (late ? kLateInput : 0) | (delay ? kBadDelay : 0) | (good_tau ? 0 : kBadTau) |
              (fired ? kFired : 0);
}

// ---- launches

template <class C>
void sort(const SpikePropEvents& events, const Workspace<C>& m, cudaStream_t stream) {
  const unsigned B = static_cast<unsigned>(events.B);
  const auto counters = [](int threads) { return kDigits / 32 * threads * sizeof(uint32_t); };
  if (events.B > 0 && m.in_shared())
    SNNFAST_LAUNCH((spikeprop_sort_kernel<C, true>), B, kThreads,
                   counters(kThreads) + static_cast<size_t>(m.sort_bytes()), stream, events, m);
  else if (events.B > 0)
    SNNFAST_LAUNCH((spikeprop_sort_kernel<C, false>), B, kSortThreads, counters(kSortThreads), stream, events, m);
}

template <class C>
int forward(const SpikePropForward& a, void* memory, cudaStream_t stream) {
  const SpikePropEvents& events = a.events;
  const Workspace<C> m(events, false, memory);
  const unsigned B = static_cast<unsigned>(events.B);
  sort(events, m, stream);
  if (events.B > 0 && events.O >= kMany) {
    const dim3 tiles(blocks_of(events.N, kTile), grid_rows(blocks_of(events.O, kTile)));
    if (events.N > 0)
      SNNFAST_LAUNCH((spikeprop_transpose_kernel<C>), tiles, kTile * kRows, 0, stream, static_cast<const C*>(a.w),
                     m.transposed, events.N, events.O);
    const dim3 grid(B, grid_rows(blocks_of(events.O, kThreads)));
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
  if (neurons > 0)
    SNNFAST_LAUNCH((spikeprop_weight_kernel<C>), blocks_of(neurons, kThreads), kThreads, 0, stream, a, m);
  if (a.grad_w && events.N > 0 && events.O > 0) {
    const dim3 grid(blocks_of(events.N, kThreads), grid_rows(blocks_of(events.O, kRows)));
    SNNFAST_LAUNCH((spikeprop_weights_kernel<C>), grid, kThreads, 0, stream, a, m, time);
  }
  if (terminals > 0 && (a.grad_t_in || a.grad_delays || a.grad_tau)) {
    const dim3 grid(B, grid_rows(blocks_of(events.N, kThreads)));
    SNNFAST_LAUNCH((spikeprop_events_kernel<C>), grid, kThreads, 0, stream, a, m, time);
  }
  if (a.grad_t_in && events.B * events.I > 0)
    SNNFAST_LAUNCH((spikeprop_inputs_kernel<C>), blocks_of(events.B * events.I, kThreads), kThreads, 0, stream,
                   m.by_event, static_cast<C*>(a.grad_t_in), events.B * events.I, events.K);
  const auto sum = [&](const C* terms, void* grad, int64_t sums, int64_t count) {
    if (sums > 0)
      SNNFAST_LAUNCH((spikeprop_sum_kernel<C>), static_cast<unsigned>(sums), kThreads, 0, stream, terms,
                     static_cast<C*>(grad), count, sums);
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

// Sorts the events of each sample, and nothing else.
int launch_spikeprop_sort(const SpikePropEvents& a, void* workspace, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  if (a.is_double)
    sort<double>(a, {a, false, workspace}, stream);
  else
    sort<float>(a, {a, false, workspace}, stream);
  return cudaGetLastError();
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
