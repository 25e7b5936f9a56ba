// A thread owns kRows weights of one column for all steps of the chunk: no weight depends on another. Slots (step,
// sample) are in tiles of 32, with spikes as bit masks, so that a thread visits only the slots in which its neurons
// fire.
#include "core/stdp.h"
#include "cuda/launch.h"
#include "cuda/normalize.cuh"

namespace snnfast {
namespace {

constexpr int kTile = 32;
constexpr int kRows = 4;  // of a thread
constexpr int kWarps = kTile / kRows;
constexpr int kThreads = 32 * kWarps;

__device__ bool spike(const StridedSpikes& s, int64_t t, int64_t b, int64_t n) {
  const int64_t at = t * s.time_stride + b * s.batch_stride + n * s.neuron_stride;
  switch (s.width) {
    case 1: return static_cast<const uint8_t*>(s.data)[at] != 0;
    case 2: return (static_cast<const uint16_t*>(s.data)[at] & 0x7fffu) != 0;
    case 4: return (static_cast<const uint32_t*>(s.data)[at] & 0x7fffffffu) != 0;
    default: return (static_cast<const uint64_t*>(s.data)[at] & 0x7fffffffffffffffull) != 0;
  }
}

template <class C>
struct Side {
  StridedSpikes train;
  int64_t N;
  C decay, decay2;
  C *trace, *trace2;  // [B, N]
  C *x, *x2;          // [steps, B, N]
  uint8_t* spikes;
};

// Traces of one side of the synapses, one thread per neuron and sample.
template <class C>
__global__ void __launch_bounds__(kThreads)
    stdp_traces_kernel(const Side<C> s, bool all, int64_t B, int64_t t0, int64_t steps) {
  const int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, count = B * s.N;
  if (e >= count) return;
  const int64_t b = e / s.N, n = e % s.N;
  C trace = s.trace[e], trace2 = s.trace2[e];
  for (int64_t t = 0; t < steps; t++) {
    const bool fires = spike(s.train, t0 + t, b, n);
    const C decayed2 = trace2 * s.decay2;
    trace = stdp_trace(trace * s.decay, fires, all);
    trace2 = stdp_trace(decayed2, fires, all);
    s.x[t * count + e] = trace;
    if (s.x2) s.x2[t * count + e] = decayed2;
    s.spikes[t * count + e] = fires;
  }
  s.trace[e] = trace;
  s.trace2[e] = trace2;
}

template <class C>
struct Tile {
  C pre[kTile][kTile + 1],
      post[kTile][kTile + 1];  // [slot][neuron]; + 1: lanes that read different slots have no bank conflicts
  uint32_t mask_pre[kTile], mask_post[kTile];  // of a neuron: bit s is set if it fires in slot s
};

// Loads x [slots, N] of the 32 neurons from n0 on and their spike masks, for the slots [q0, q0 + 32) below end.
template <class C>
__device__ void load_tile(const C* x, const uint8_t* spikes, int64_t N, int64_t n0, int64_t q0, int64_t end,
                          C (*values)[kTile + 1], uint32_t* masks) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int slot = warp; slot < kTile; slot += kWarps) {
    const bool inside = q0 + slot < end && n0 + lane < N;
    values[slot][lane] = inside ? x[(q0 + slot) * N + n0 + lane] : C(0);
    if (inside && spikes[(q0 + slot) * N + n0 + lane]) atomicOr(&masks[lane], 1u << slot);
  }
}

template <PlasticityKind K, class C, bool Modulated>
__global__ void __launch_bounds__(kThreads, 1) stdp_weights_kernel(const Stdp a, const Plasticity<C> p) {
  __shared__ Tile<C> tile;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t i0 = static_cast<int64_t>(blockIdx.x) * kTile, i = i0 + lane;
  const C scale = static_cast<C>(a.scale), decay = static_cast<C>(a.decay_eligibility);
  const C *x_pre = static_cast<const C*>(a.x_pre), *x_post = static_cast<const C*>(a.x_post);
  const int64_t slots = a.steps * a.B;
  // The grid is limited in this dimension, so a block may process several tiles of rows.
  for (int64_t j0 = static_cast<int64_t>(blockIdx.y) * kTile; j0 < a.N_post;
       j0 += static_cast<int64_t>(gridDim.y) * kTile) {
    const int64_t jt = j0 + warp * kRows;
    C w[kRows], grown[kRows], lost[kRows], shrink[kRows];
    StdpGrowth<C> growth[kRows];
    bool mine[kRows];
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      const int64_t j = jt + r;
      mine[r] = i < a.N_pre && j < a.N_post;
      w[r] = mine[r] ? static_cast<const C*>(a.w)[j * a.w_stride + i] : p.w_min;
      const bool go_on = mine[r] && !a.each_step && a.t0 > 0;
      grown[r] = go_on ? static_cast<const C*>(a.grown)[j * a.N_pre + i] : C(0);
      lost[r] = go_on ? static_cast<const C*>(a.lost)[j * a.N_pre + i] : C(0);
      growth[r] = stdp_growth<K>(p, w[r]);
      shrink[r] = stdp_shrinkage<K>(p, w[r]);
    }
    for (int64_t q0 = 0; q0 < slots; q0 += kTile) {
      __syncthreads();
      if (threadIdx.x < kTile) tile.mask_pre[threadIdx.x] = tile.mask_post[threadIdx.x] = 0;
      __syncthreads();
      load_tile(x_pre, a.spikes_pre, a.N_pre, i0, q0, slots, tile.pre, tile.mask_pre);
      load_tile(x_post, a.spikes_post, a.N_post, j0, q0, slots, tile.post, tile.mask_post);
      __syncthreads();
      const uint32_t fired_pre = p.depresses() ? tile.mask_pre[lane] : 0;
      const int tile_slots = slots - q0 < kTile ? static_cast<int>(slots - q0) : kTile;
      for (int begin = 0; begin < tile_slots;) {
        // Slots of one step within this tile; a single one if eligibility is updated slot by slot.
        const int64_t to_next = a.B - (q0 + begin) % a.B;
        int end = begin + (to_next < tile_slots - begin ? static_cast<int>(to_next) : tile_slots - begin);
        if (Modulated) end = begin + 1;
        const uint32_t range = (end == 32 ? ~0u : (1u << end) - 1) & ~((1u << begin) - 1);
        const int64_t t = (q0 + begin) / a.B;
#pragma unroll
        for (int r = 0; r < kRows; r++) {
          const int jr = warp * kRows + r;
          C up = Modulated ? C(0) : grown[r], down = Modulated ? C(0) : lost[r];
          for (uint32_t m = tile.mask_post[jr] & range; m; m &= m - 1) {
            const int s = __ffs(static_cast<int>(m)) - 1;
            const C x_post2 =
                K == PlasticityKind::triplet ? static_cast<const C*>(a.x_post2)[(q0 + s) * a.N_post + jt + r] : C(0);
            up += stdp_potentiation<K>(p, growth[r], tile.pre[s][lane], x_post2);
          }
          for (uint32_t m = fired_pre & range; m; m &= m - 1) {
            const int s = __ffs(static_cast<int>(m)) - 1;
            const C x_pre2 =
                K == PlasticityKind::triplet ? static_cast<const C*>(a.x_pre2)[(q0 + s) * a.N_pre + i] : C(0);
            down += stdp_loss<K>(p, tile.post[s][jr], x_pre2) * shrink[r];
          }
          if (Modulated) {
            if (mine[r]) {
              C& eligibility = static_cast<C*>(a.eligibility)[(((q0 + begin) % a.B) * a.N_post + jt + r) * a.N_pre + i];
              const C reward = static_cast<const C*>(a.reward)[a.t0 * a.B + q0 + begin];
              const C e = eligibility * decay + (up - down);
              eligibility = e;
              if (reward != 0) grown[r] += reward * e;
            }
          } else {
            grown[r] = up;
            lost[r] = down;
          }
        }
        begin = end;
        if (!a.each_step || q0 + end < (t + 1) * a.B) continue;
#pragma unroll
        for (int r = 0; r < kRows; r++) {
          const C change = (grown[r] - lost[r]) * scale;
          grown[r] = lost[r] = 0;
          if (change == 0) continue;
          w[r] = stdp_clamp(p, w[r] + change);
          growth[r] = stdp_growth<K>(p, w[r]);
          shrink[r] = stdp_shrinkage<K>(p, w[r]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      if (!mine[r]) continue;
      const int64_t j = jt + r;
      if (!a.each_step) {
        if (a.last && a.T > 0) w[r] = stdp_clamp(p, w[r] + (grown[r] - lost[r]) * scale);
        static_cast<C*>(a.grown)[j * a.N_pre + i] = grown[r];
        static_cast<C*>(a.lost)[j * a.N_pre + i] = lost[r];
      }
      static_cast<C*>(a.w)[j * a.w_stride + i] = w[r];
    }
  }
}

// One warp per row.
template <class C>
__global__ void __launch_bounds__(kThreads) stdp_normalize_kernel(const Stdp a, const Plasticity<C> p) {
  const int64_t j = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (j < a.N_post) normalize_row(p, static_cast<C*>(a.w) + j * a.w_stride, a.N_pre, 1, a.norm);
}

template <PlasticityKind K, class C>
void launch_weights(const Stdp& a, const Plasticity<C>& p, cudaStream_t stream) {
  const dim3 grid(blocks_of(a.N_pre, kTile), grid_rows(blocks_of(a.N_post, kTile)));
  if (a.modulated)
    SNNFAST_LAUNCH((stdp_weights_kernel<K, C, true>), grid, kThreads, 0, stream, a, p);
  else
    SNNFAST_LAUNCH((stdp_weights_kernel<K, C, false>), grid, kThreads, 0, stream, a, p);
}

template <class C>
void launch_traces(const Stdp& a, const Plasticity<C>& p, const Side<C>& side, cudaStream_t stream) {
  const int64_t neurons = a.B * side.N;
  if (neurons > 0)
    SNNFAST_LAUNCH((stdp_traces_kernel<C>), blocks_of(neurons, kThreads), kThreads, 0, stream, side, p.all, a.B, a.t0,
                   a.steps);
}

template <class C>
void launch_both_traces(const Stdp& a, cudaStream_t stream) {
  const Plasticity<C> p = plasticity<C>(a.rule);
  const auto as = [](void* pointer) { return static_cast<C*>(pointer); };
  if (a.steps == 0) return;
  launch_traces(a, p,
                Side<C>{a.pre, a.N_pre, p.decay_pre, p.decay_pre2, as(a.trace_pre), as(a.trace_pre2), as(a.x_pre),
                        as(a.x_pre2), a.spikes_pre},
                stream);
  launch_traces(a, p,
                Side<C>{a.post, a.N_post, p.decay_post, p.decay_post2, as(a.trace_post), as(a.trace_post2),
                        as(a.x_post), as(a.x_post2), a.spikes_post},
                stream);
}

template <class C>
int launch(const Stdp& a, cudaStream_t stream) {
  const Plasticity<C> p = plasticity<C>(a.rule);
  launch_both_traces<C>(a, stream);
  if (a.N_pre == 0 || a.N_post == 0) return cudaGetLastError();
  if (a.steps > 0) with_kind(p.kind, [&](auto kind) { launch_weights<decltype(kind)::value>(a, p, stream); });
  if (a.last && a.norm > 0)
    SNNFAST_LAUNCH((stdp_normalize_kernel<C>), blocks_of(a.N_post, kWarps), kThreads, 0, stream, a, p);
  return cudaGetLastError();
}

}  // namespace

// Of both sides of a chunk of steps.
int launch_stdp_traces(const Stdp& a, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  a.is_double ? launch_both_traces<double>(a, stream) : launch_both_traces<float>(a, stream);
  return cudaGetLastError();
}

int launch_stdp(const Stdp& a, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  return a.is_double ? launch<double>(a, stream) : launch<float>(a, stream);
}

}  // namespace snnfast
