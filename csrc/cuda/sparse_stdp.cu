// A thread owns a weight for all steps of a chunk, whose traces and spikes are those of stdp.cu. Threads are in the
// order of the postsynaptic neurons: neighbours read the same traces.
#include "core/sparse_stdp.h"

#include "cuda/normalize.cuh"
#include "cuda/sparse_rows.cuh"

namespace snnfast {

int launch_stdp_traces(const Stdp& a, void* stream);

namespace {

// The weight of entry k of incoming; -1: of none, or it does not learn.
__device__ int64_t weight_of(const SparseStdp& a, int64_t k) {
  const int64_t q = a.incoming[k];
  return q < a.synapses.size && a.sources[k] >= a.begin && a.sources[k] < a.end ? q : -1;
}

template <PlasticityKind K, class C, bool Modulated>
__global__ void __launch_bounds__(kSparseThreads, 1)
    sparse_stdp_weights_kernel(const SparseStdp a, const Plasticity<C> p) {
  const SparseRows<C> rows(a.synapses, a.w, a.N_post);
  const C scale = static_cast<C>(a.scale), decay = static_cast<C>(a.decay_eligibility);
  const C *x_pre = static_cast<const C*>(a.x_pre), *x_pre2 = static_cast<const C*>(a.x_pre2),
          *x_post = static_cast<const C*>(a.x_post), *x_post2 = static_cast<const C*>(a.x_post2);
  C *weights = static_cast<C*>(a.w), *grown = static_cast<C*>(a.grown), *lost = static_cast<C*>(a.lost);
  for (int64_t k = static_cast<int64_t>(blockIdx.x) * kSparseThreads + threadIdx.x; k < a.synapses.size;
       k += static_cast<int64_t>(gridDim.x) * kSparseThreads) {
    const int64_t q = weight_of(a, k), j = a.sources[k], i = q < 0 ? -1 : rows.target(q);
    if (i < 0) continue;
    const bool goes_on = !a.each_step && a.t0 > 0;
    C w = weights[q], up = goes_on ? grown[q] : C(0), down = goes_on ? lost[q] : C(0);
    StdpGrowth<C> growth = stdp_growth<K>(p, w);
    C shrink = stdp_shrinkage<K>(p, w);
    for (int64_t t = 0; t < a.steps; t++) {
      bool changes = false;
      for (int64_t b = 0; b < a.B; b++) {
        const int64_t slot = t * a.B + b, pre = slot * a.N_pre + j, post = slot * a.N_post + i;
        C grows = Modulated ? C(0) : up, loses = Modulated ? C(0) : down;
        if (p.depresses() && a.spikes_pre[pre]) {
          loses += stdp_loss<K>(p, x_post[post], K == PlasticityKind::triplet ? x_pre2[pre] : C(0)) * shrink;
          changes = true;
        }
        if (a.spikes_post[post]) {
          grows += stdp_potentiation<K>(p, growth, x_pre[pre], K == PlasticityKind::triplet ? x_post2[post] : C(0));
          changes = true;
        }
        if (!Modulated) {
          up = grows, down = loses;
          continue;
        }
        C& eligibility = static_cast<C*>(a.eligibility)[b * a.synapses.size + q];
        const C reward = static_cast<const C*>(a.reward)[(a.t0 + t) * a.B + b];
        const C e = eligibility * decay + (grows - loses);
        eligibility = e;
        if (reward != 0) up += reward * e, changes = true;
      }
      if (!a.each_step || !changes) continue;
      w = stdp_clamp(p, w + (up - down) * scale);
      up = down = C(0);
      growth = stdp_growth<K>(p, w);
      shrink = stdp_shrinkage<K>(p, w);
    }
    if (!a.each_step) {
      if (a.last && a.T > 0) w = stdp_clamp(p, w + (up - down) * scale);
      grown[q] = up, lost[q] = down;
    }
    weights[q] = w;
  }
}

// A warp scales the weights to a postsynaptic neuron.
template <class C>
__global__ void __launch_bounds__(kSparseThreads, 1)
    sparse_stdp_normalize_kernel(const SparseStdp a, const Plasticity<C> p) {
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kSparseThreads / 32);
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * (kSparseThreads / 32) + threadIdx.x / 32; i < a.N_post;
       i += warps) {
    const int64_t first = max(a.incoming_first[i], 0), last = min(a.incoming_first[i + 1], a.synapses.size);
    normalize_weights(p, last - first, a.norm, [&](int64_t k) -> C* {
      const int64_t q = weight_of(a, first + k);
      return q < 0 ? nullptr : static_cast<C*>(a.w) + q;
    });
  }
}

template <class C>
int launch(const SparseStdp& a, cudaStream_t stream) {
  const Plasticity<C> p = plasticity<C>(a.rule);
  if (a.synapses.size > 0 && a.steps > 0)
    with_kind(p.kind, [&](auto kind) {
      const auto blocks = some_of(blocks_of(a.synapses.size, kSparseThreads));
      if (a.modulated)
        SNNFAST_LAUNCH((sparse_stdp_weights_kernel<decltype(kind)::value, C, true>), blocks, kSparseThreads, 0, stream,
                       a, p);
      else
        SNNFAST_LAUNCH((sparse_stdp_weights_kernel<decltype(kind)::value, C, false>), blocks, kSparseThreads, 0, stream,
                       a, p);
    });
  if (a.last && a.norm > 0 && a.N_post > 0)
    SNNFAST_LAUNCH(sparse_stdp_normalize_kernel<C>, some_of(blocks_of(a.N_post, kSparseThreads / 32)), kSparseThreads,
                   0, stream, a, p);
  return cudaGetLastError();
}

}  // namespace

int launch_sparse_stdp(const SparseStdp& a, void* stream) {
  const int error = launch_stdp_traces(a, stream);
  if (error != cudaSuccess) return error;
  return a.is_double ? launch<double>(a, static_cast<cudaStream_t>(stream))
                     : launch<float>(a, static_cast<cudaStream_t>(stream));
}

}  // namespace snnfast
