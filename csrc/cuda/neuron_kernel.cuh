// The scan over time on CUDA, forward and backward, for any neuron (core/neuron.h). A thread runs V neighbouring
// neurons through all time steps (rows.cuh). The backward pass recomputes the states of one segment between checkpoints
// into shared memory, a private column per thread; only rows that a warp has copied for its threads need a barrier.
#pragma once
#include "core/surrogate.h"
#include "cuda/rows.cuh"

namespace snnfast {
namespace {

// Whether all neurons share all parameters.
template <class Neuron, bool Uniform>
constexpr bool kAllShared = Uniform && Neuron::kEach == 0;

// Coefficients of V neighbouring neurons. Uniform: all parameters are numbers, except the last kEach.
template <class Neuron, class C, int V, bool Uniform>
struct Lanes {
  C coefficients[kAllShared<Neuron, Uniform> ? 1 : V][Neuron::kCoefficients];

  __device__ __forceinline__ Lanes(const NeuronScan<Neuron>& a, int64_t n) {
    if constexpr (Uniform) {
      NeuronScan<Neuron> numbers = a;  // the compiler sees that none is a tensor
#pragma unroll
      for (int k = 0; k < Neuron::kParams - Neuron::kEach; k++) numbers.param[k].data = nullptr;
      if constexpr (kAllShared<Neuron, Uniform>)
        neuron_coefficients<Neuron, C>(numbers, n, coefficients[0]);
      else
        neuron_coefficients<Neuron, C, V>(numbers, n, coefficients);
    } else {
      neuron_coefficients<Neuron, C, V>(a, n, coefficients);
    }
  }
  __device__ __forceinline__ const C* get(int i) const { return coefficients[kAllShared<Neuron, Uniform> ? 0 : i]; }
};

template <class Neuron, class C, int V, bool Uniform>
__device__ __forceinline__ void load_initial_state(const NeuronScan<Neuron>& a,
                                                   const Lanes<Neuron, C, V, Uniform>& lanes, int64_t n,
                                                   C (*state)[V]) {
#pragma unroll
  for (int k = 0; k < Neuron::kStates; k++) {
    load_neurons<C, V>(a.state_in[k], n, C(0), state[k]);
#pragma unroll
    for (int i = 0; i < V; i++)
      if (!a.state_in[k]) state[k][i] = Neuron::rest(k, lanes.get(i));
  }
}

// Rows of each step that the backward pass stores in shared memory: the tape, if parameters are numbers; else the
// states before the step, from which the tape is recomputed with x.
template <class Neuron, bool Uniform>
struct SavedRows {
  static constexpr bool kTape = kAllShared<Neuron, Uniform>;
  static constexpr int kRows = kTape ? Neuron::template kTape<Uniform> : Neuron::kStates;
};

// One step of V neurons; spikes as 0 and 1; `saved` receives the rows of SavedRows.
template <class Neuron, class C, Reset R, int V, bool Uniform>
__device__ __forceinline__ void step(const C* x, const Lanes<Neuron, C, V, Uniform>& lanes, C (*state)[V], C* spikes,
                                     C (*saved)[V]) {
  using SavedRows = SavedRows<Neuron, Uniform>;
#pragma unroll
  for (int i = 0; i < V; i++) {
    C s[Neuron::kStates], tape[Neuron::template kTape<Uniform>] = {};
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) s[k] = state[k][i];
    if constexpr (!SavedRows::kTape) {
#pragma unroll
      for (int k = 0; k < Neuron::kStates; k++) saved[k][i] = s[k];
    }
    spikes[i] = Neuron::template step<R, Uniform>(x[i], lanes.get(i), s, tape);
    if constexpr (SavedRows::kTape) {
#pragma unroll
      for (int k = 0; k < SavedRows::kRows; k++) saved[k][i] = tape[k];
    }
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) state[k][i] = s[k];
  }
}

template <class Neuron, class C, class T, Reset R, int V, bool Uniform, bool Narrow>
__global__ void __launch_bounds__(kThreads<Narrow>, 1) neuron_forward_kernel(const NeuronForward<Neuron> a) {
  const int64_t n = (static_cast<int64_t>(blockIdx.x) * kThreads<Narrow> + threadIdx.x) * V;
  SNNFAST_DYN_SHARED(char, shared);
  // In a long step, ptxas would move each load next to its use.
  Sequence<T, V, Narrow, Neuron::kPrefetch> rows(a.x, a.T, n, a.N, shared);
  if (n >= a.N) return;
  const Lanes<Neuron, C, V, Uniform> lanes(a, n);
  C state[Neuron::kStates][V];
  load_initial_state(a, lanes, n, state);
  const int64_t every = a.checkpoints_out ? a.checkpoint_every : a.T;
  // One address moves: that of the spikes. That of v_seq, which may be absent, is computed from it.
  constexpr uintptr_t kWidth = sizeof(C) / sizeof(T);
  const uintptr_t stride = static_cast<uintptr_t>(a.N) * sizeof(T),
                  v_from = reinterpret_cast<uintptr_t>(a.v_seq) - reinterpret_cast<uintptr_t>(a.spikes) * kWidth;
  uintptr_t spikes_at = reinterpret_cast<uintptr_t>(a.spikes) + static_cast<uintptr_t>(n) * sizeof(T);
  const bool keeps_v = a.v_seq;
  FurtherInputs<Neuron, T, V> further(a, 0, n);
  FurtherOutputs<Neuron, C, V> outputs(a, n);
  C* checkpoint = a.checkpoints_out ? static_cast<C*>(a.checkpoints_out) + n : nullptr;
  for (int64_t begin = 0; begin < a.T; begin += every) {
    if (begin > 0) {
#pragma unroll
      for (int k = 0; k < Neuron::kStates; k++, checkpoint += a.N) store<C, V>(checkpoint, 0, state[k]);
    }
    rows.for_each(begin, a.T - begin < every ? a.T : begin + every, [&](const Pack<T, V>& row) {
      C x[V], spikes[V], saved[SavedRows<Neuron, Uniform>::kRows][V];
      widen(row, x);
      further.read(state);
      step<Neuron, C, R, V, Uniform>(x, lanes, state, spikes, saved);
      outputs.write(state);
      if constexpr (R != Reset::none) store<T, V>(reinterpret_cast<void*>(spikes_at), 0, spikes);
      if (keeps_v) store<C, V>(reinterpret_cast<void*>(v_from + kWidth * spikes_at), 0, state[0]);
      spikes_at += stride;
    });
  }
#pragma unroll
  for (int k = 0; k < Neuron::kStates; k++)
    if (a.state_out[k]) store<C, V>(a.state_out[k], n, state[k]);
}

template <Surrogate S, class C, int V>
__device__ __forceinline__ void derivatives(const C* u, C alpha, C* out) {
#pragma unroll
  for (int i = 0; i < V; i++) out[i] = surrogate_derivative<S, C>(u[i], alpha);
}

// The default surrogate has separate kernels; the others, Surrogate::count, are selected at run time: the branch is the
// same for all threads, and as template arguments they would multiply the kernels to compile.
template <Surrogate S, class C, int V>
__device__ __forceinline__ void derivatives(int32_t surrogate, const C* u, C alpha, C* out) {
  if constexpr (S != Surrogate::count) return derivatives<S, C, V>(u, alpha, out);
  switch (static_cast<Surrogate>(surrogate)) {
    case Surrogate::atan: return derivatives<Surrogate::atan, C, V>(u, alpha, out);
    case Surrogate::sigmoid: return derivatives<Surrogate::sigmoid, C, V>(u, alpha, out);
    case Surrogate::fast_sigmoid: return derivatives<Surrogate::fast_sigmoid, C, V>(u, alpha, out);
    case Surrogate::rectangle: return derivatives<Surrogate::rectangle, C, V>(u, alpha, out);
    case Surrogate::triangle: return derivatives<Surrogate::triangle, C, V>(u, alpha, out);
    case Surrogate::gaussian: return derivatives<Surrogate::gaussian, C, V>(u, alpha, out);
    default: return derivatives<Surrogate::straight_through, C, V>(u, alpha, out);
  }
}

// Whether a thread computes the surrogate's derivatives of all steps in flight at once: the surrogate is selected once
// for them, and no step waits for another. For few neurons, which are bound by latency; for many it would cost more
// registers than it gains.
template <class Neuron, Reset R, int V, bool Uniform>
constexpr bool kSlopesAhead = V == 1 && R != Reset::none && SavedRows<Neuron, Uniform>::kTape;

// Gradient of one step of V neurons. saved: the rows of SavedRows; slope: the surrogate's derivatives if kSlopesAhead;
// grad: dL/d(states after) on entry, dL/d(states before) on return.
template <class Neuron, class C, Reset R, int V, bool Uniform, Surrogate S>
__device__ __forceinline__ void step_backward(const NeuronBackward<Neuron>& a,
                                              const Lanes<Neuron, C, V, Uniform>& lanes, const C* x,
                                              const C (*saved)[V], C* slope, const C* grad_spikes, const C* grad_v,
                                              C (*grad)[V], C (*grad_params)[V], C* grad_x) {
  using SavedRows = SavedRows<Neuron, Uniform>;
  constexpr int kTape = Neuron::template kTape<Uniform>;
  C tape[V][kTape] = {};
#pragma unroll
  for (int i = 0; i < V; i++) {
    if constexpr (SavedRows::kTape) {
#pragma unroll
      for (int k = 0; k < kTape; k++) tape[i][k] = saved[k][i];
    } else {
      C s[Neuron::kStates];
#pragma unroll
      for (int k = 0; k < Neuron::kStates; k++) s[k] = saved[k][i];
      Neuron::template step<R, Uniform>(x[i], lanes.get(i), s, tape[i]);
    }
    if constexpr (!kSlopesAhead<Neuron, R, V, Uniform>)
      slope[i] = Neuron::template margin<R, Uniform>(tape[i], lanes.get(i));
  }
  const C attached = a.detach_reset ? C(0) : C(1);
  if constexpr (R != Reset::none && !kSlopesAhead<Neuron, R, V, Uniform>)
    derivatives<S, C, V>(a.surrogate, slope, static_cast<C>(a.alpha), slope);
#pragma unroll
  for (int i = 0; i < V; i++) {
    C g[Neuron::kStates], gp[Neuron::kParams];
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) g[k] = grad[k][i];
#pragma unroll
    for (int k = 0; k < Neuron::kParams; k++) gp[k] = shared_parameter<Neuron, Uniform>(k) ? C(0) : grad_params[k][i];
    g[0] += grad_v[i];
    grad_x[i] =
        Neuron::template step_backward<R, Uniform>(tape[i], lanes.get(i), grad_spikes[i], slope[i], attached, g, gp);
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) grad[k][i] = g[k];
#pragma unroll
    for (int k = 0; k < Neuron::kParams; k++)
      if (!shared_parameter<Neuron, Uniform>(k)) grad_params[k][i] = gp[k];
  }
}

// Type of the incoming gradients: of spikes; for a readout, of membrane potentials.
template <class C, class T, Reset R>
using Incoming = std::conditional_t<R == Reset::none, C, T>;

template <class Neuron, class C, class T, Reset R, int V, bool Uniform, bool Narrow, Surrogate S>
__global__ void __launch_bounds__(kThreads<Narrow>, 1) neuron_backward_kernel(const NeuronBackward<Neuron> a) {
  using Column = Pack<C, V>;
  using SavedRows = SavedRows<Neuron, Uniform>;
  SNNFAST_DYN_SHARED(Column, columns);  // [steps of a segment][rows of SavedRows][kThreads<Narrow>]
  const int64_t n = (static_cast<int64_t>(blockIdx.x) * kThreads<Narrow> + threadIdx.x) * V, K = a.checkpoint_every,
                longest = min(a.T, K);
  if (n >= a.N) return;
  const Lanes<Neuron, C, V, Uniform> lanes(a, n);
  const auto column = [&](int j, int k) -> Column& {
    return columns[(j * SavedRows::kRows + k) * kThreads<Narrow> + threadIdx.x];
  };
  C grad[Neuron::kStates][V], grad_params[Neuron::kParams][V], state[Neuron::kStates][V];
#pragma unroll
  for (int k = 0; k < Neuron::kStates; k++) load_neurons<C, V>(a.grad_state_out[k], n, C(0), grad[k]);
#pragma unroll
  for (int k = 0; k < Neuron::kParams; k++)
#pragma unroll
    for (int i = 0; i < V; i++) grad_params[k][i] = C(0);
  const auto load_state = [&](int64_t segment) {  // states before it
    if (segment <= 0) return load_initial_state(a, lanes, n, state);
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++)
      load_neurons<C, V>(static_cast<const C*>(a.checkpoints) + ((segment - 1) * Neuron::kStates + k) * a.N, n, C(0),
                         state[k]);
  };

  using G = Incoming<C, T, R>;
  constexpr int kTiles = Segments<T, V, Narrow>::kTiles;
  char* const behind = reinterpret_cast<char*>(columns + longest * SavedRows::kRows * kThreads<Narrow>);
  const Segments<T, V, Narrow> all_x(a.x, behind, longest, n, a.N);
  const Segments<G, V, Narrow, false> all_grads(R == Reset::none ? a.grad_v_seq : a.grad_spikes,
                                                behind + Segments<T, V, Narrow>::bytes(longest), longest, n, a.N);
  const auto copy = [&](int tile, int64_t segment) {
    if constexpr (!Narrow) return;
    const int64_t begin = segment * K, steps = min(a.T - begin, K);
    if (segment >= 0) all_x.copy(tile, begin, steps), all_grads.copy(tile, begin, steps);
    copies_commit();
  };
  const int64_t last = (a.T + K - 1) / K - 1;
#pragma unroll 1
  for (int k = 0; k < kTiles; k++) copy(k, last - k);
  if (Narrow) load_state(last);
  const auto grad_v_before = [&](int64_t t) { return Reader<C, V>::optional(a.grad_v_seq, t, n); };
  const auto grad_x_before = [&](int64_t t) {
    return static_cast<char*>(a.grad_x) + (t * a.N + n) * static_cast<int64_t>(sizeof(T));
  };
  const int64_t grad_x_stride = a.N * static_cast<int64_t>(sizeof(T));
  auto grad_v_rows = grad_v_before(a.T);
  char* grad_x_row = grad_x_before(a.T);
  int tile = 0;
  for (int64_t segment = last; segment >= 0; segment--) {
    const int64_t begin = segment * K;
    const int steps = static_cast<int>(min(a.T - begin, K));
    if constexpr (Narrow) {
      copies_wait<kTiles - 1>();
      __syncwarp();
    } else {  // reloaded, or they would take registers meanwhile
      load_state(segment);
      grad_v_rows = grad_v_before(begin + steps);
      grad_x_row = grad_x_before(begin + steps);
    }
    FurtherInputs<Neuron, T, V> further(a, begin, n);
    auto x_rows = all_x.from(tile, begin, 0);
    auto grad_rows = all_grads.from(tile, begin, steps);
    constexpr bool kTwice = !Narrow && Neuron::kPrefetch;  // as in the forward pass
    Pack<T, V> ahead[kTwice ? kUnroll<Narrow> : 1];
    if (kTwice && steps >= kUnroll<Narrow>) {
#pragma unroll
      for (int u = 0; u < kUnroll<Narrow>; u++) ahead[kTwice ? u : 0] = x_rows.load(u);
    }
    in_groups<kUnroll<Narrow>>(0, steps, [&](auto count, int j) {
      constexpr int kSteps = decltype(count)::value, kNext = kTwice && kSteps == kUnroll<Narrow> ? kSteps : 0;
      Pack<T, V> rows[kSteps];
#pragma unroll
      for (int u = 0; u < kSteps; u++) rows[u] = kNext ? ahead[kNext ? u : 0] : x_rows.load(u);
      x_rows.skip(kSteps);
      if (kNext && j + 2 * kNext <= steps) {
#pragma unroll
        for (int u = 0; u < kNext; u++) ahead[u] = x_rows.load(u);
      }
#pragma unroll
      for (int u = 0; u < kSteps; u++) {
        C x[V], spikes[V], saved[SavedRows::kRows][V];
        widen(rows[u], x);
        further.read(state);
        step<Neuron, C, R, V, Uniform>(x, lanes, state, spikes, saved);
#pragma unroll
        for (int k = 0; k < SavedRows::kRows; k++)
#pragma unroll
          for (int i = 0; i < V; i++) column(j + u, k).at[i] = saved[k][i];
      }
    });
    if (Narrow && segment > 0) load_state(segment - 1);
    in_groups_back<kUnroll<Narrow>>(steps, [&](auto count, int j) {
      constexpr int kSteps = decltype(count)::value;
      Pack<T, V> rows[kSteps] = {};  // all bits 0 is the value 0
      Pack<G, V> grads[kSteps];
      Pack<C, V> grads_v[kSteps] = {};
      if constexpr (!SavedRows::kTape) {
        x_rows.skip(-kSteps);
#pragma unroll
        for (int u = 0; u < kSteps; u++) rows[u] = x_rows.load(u);
      }
      grad_rows.skip(-kSteps);
      grad_v_rows.skip(-kSteps);
#pragma unroll
      for (int u = 0; u < kSteps; u++) grads[u] = grad_rows.load(u);
      // For many neurons without a condition, before which ptxas would wait for the other loads.
      if (R != Reset::none && (!Narrow || a.grad_v_seq.data)) {
#pragma unroll
        for (int u = 0; u < kSteps; u++) grads_v[u] = grad_v_rows.load(u);
      }
      C slopes[kSteps][V] = {};
      if constexpr (kSlopesAhead<Neuron, R, V, Uniform>) {
#pragma unroll
        for (int u = 0; u < kSteps; u++) {
          C tape[SavedRows::kRows];
#pragma unroll
          for (int k = 0; k < SavedRows::kRows; k++) tape[k] = column(j + u, k).at[0];
          slopes[u][0] = Neuron::template margin<R, Uniform>(tape, lanes.get(0));
        }
        derivatives<S, C, kSteps>(a.surrogate, slopes[0], static_cast<C>(a.alpha), slopes[0]);
      }
#pragma unroll
      for (int u = kSteps - 1; u >= 0; u--) {
        C x[V], grad_spikes[V] = {}, grad_v[V], saved[SavedRows::kRows][V], grad_x[V];
        widen(rows[u], x);
        widen(grads[u], R == Reset::none ? grad_v : grad_spikes);
        if constexpr (R != Reset::none) widen(grads_v[u], grad_v);
#pragma unroll
        for (int k = 0; k < SavedRows::kRows; k++)
#pragma unroll
          for (int i = 0; i < V; i++) saved[k][i] = column(j + u, k).at[i];
        if constexpr (kHasMore<Neuron>) {
#pragma unroll
          for (int k = Neuron::kFirstOutput; k < Neuron::kStates; k++)
            widen(Reader<C, V>::optional(a.more_grad_outputs[k], begin + j + u, n).load(0), grad[k]);
        }
        step_backward<Neuron, C, R, V, Uniform, S>(a, lanes, x, saved, slopes[u], grad_spikes, grad_v, grad,
                                                   grad_params, grad_x);
        if constexpr (kHasMore<Neuron>) {
#pragma unroll
          for (int k = Neuron::kFirstInput; k < Neuron::kFirstOutput; k++)
            store<T, V>(a.more_grad_inputs[k], (begin + j + u) * a.N + n, grad[k]);
        }
        grad_x_row -= grad_x_stride;
        store<T, V>(grad_x_row, 0, grad_x);
      }
    });
    if constexpr (Narrow) __syncwarp();
    copy(tile, segment - kTiles);
    tile = tile + 1 < kTiles ? tile + 1 : 0;
  }
#pragma unroll
  for (int k = 0; k < Neuron::kStates; k++)
    if (a.grad_state_in[k]) store<C, V>(a.grad_state_in[k], n, grad[k]);
  if constexpr (!kAllShared<Neuron, Uniform>) {
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) {
      if (a.state_in[k]) continue;
#pragma unroll
      for (int i = 0; i < V; i++) {
        C gp[Neuron::kParams];
#pragma unroll
        for (int p = 0; p < Neuron::kParams; p++) gp[p] = grad_params[p][i];
        Neuron::rest_backward(k, grad[k][i], gp);
#pragma unroll
        for (int p = 0; p < Neuron::kParams; p++) grad_params[p][i] = gp[p];
      }
    }
  }
  if constexpr (!kAllShared<Neuron, Uniform>) {
#pragma unroll
    for (int k = 0; k < Neuron::kParams; k++)
      if (!shared_parameter<Neuron, Uniform>(k) && a.grad_param[k]) store<C, V>(a.grad_param[k], n, grad_params[k]);
  }
}

}  // namespace
}  // namespace snnfast
