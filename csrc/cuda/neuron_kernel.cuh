// The scan over time on CUDA, forward and backward, for any neuron whose one-step maths stands in csrc/core.
// A thread runs V neighbouring neurons through all time steps (rows.cuh). The backward pass recomputes the states of one segment
// between checkpoints into shared memory, a private column a thread; only rows that a warp has copied for its threads need a barrier.
#pragma once
#include "core/surrogate.h"
#include "cuda/rows.cuh"

namespace snnfast {
namespace {

// Whether nothing of the parameters differs from neuron to neuron.
template <class Neuron, bool Uniform>
constexpr bool kAlike = Uniform && Neuron::kEach == 0;

// Coefficients of V neighbouring neurons; Uniform: of all neurons, which are numbers, but for the last kEach.
template <class Neuron, class C, int V, bool Uniform>
struct Lanes {
  C coefficients[kAlike<Neuron, Uniform> ? 1 : V][Neuron::kCoefficients];

  __device__ __forceinline__ Lanes(const NeuronScan<Neuron>& a, int64_t n) {
    if constexpr (Uniform) {
      NeuronScan<Neuron> numbers = a;  // of which the compiler sees that none is a tensor
#pragma unroll
      for (int k = 0; k < Neuron::kParams - Neuron::kEach; k++) numbers.param[k].data = nullptr;
      if constexpr (kAlike<Neuron, Uniform>)
        neuron_coefficients<Neuron, C>(numbers, n, coefficients[0]);
      else
        neuron_coefficients<Neuron, C, V>(numbers, n, coefficients);
    } else {
      neuron_coefficients<Neuron, C, V>(a, n, coefficients);
    }
  }
  __device__ __forceinline__ const C* of(int i) const { return coefficients[kAlike<Neuron, Uniform> ? 0 : i]; }
};

template <class Neuron, class C, int V, bool Uniform>
__device__ __forceinline__ void load_initial_state(const NeuronScan<Neuron>& a, const Lanes<Neuron, C, V, Uniform>& lanes, int64_t n, C (*state)[V]) {
#pragma unroll
  for (int k = 0; k < Neuron::kStates; k++) {
    load_neurons<C, V>(a.state_in[k], n, C(0), state[k]);
#pragma unroll
    for (int i = 0; i < V; i++)
      if (!a.state_in[k]) state[k][i] = Neuron::rest(k, lanes.of(i));
  }
}

// What the backward pass keeps of each step in shared memory. With numbers for parameters that is what its maths then reads; else the
// states before the step, from which all of that follows with x.
template <class Neuron, bool Uniform>
struct Kept {
  static constexpr bool kCharged = kAlike<Neuron, Uniform>;
  static constexpr int kRows = kCharged ? Neuron::kTape - Neuron::kSpare : Neuron::kStates;
  // Where a row stands among the kTape numbers of a step.
  static __device__ __forceinline__ constexpr int of(int row) { return row < kRows - Neuron::kLeft ? row : row + Neuron::kSpare; }
};

// One step of V neurons; spikes as 0 and 1; `kept` gets the rows of Kept.
template <class Neuron, class C, Reset R, int V, bool Uniform>
__device__ __forceinline__ void step(const C* x, const Lanes<Neuron, C, V, Uniform>& lanes, C (*state)[V], C* spikes, C (*kept)[V]) {
  using Kept = Kept<Neuron, Uniform>;
#pragma unroll
  for (int i = 0; i < V; i++) {
    C s[Neuron::kStates], charged[Neuron::kTape];
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) s[k] = state[k][i];
    if constexpr (!Kept::kCharged) {
#pragma unroll
      for (int k = 0; k < Neuron::kStates; k++) kept[k][i] = s[k];
    }
    spikes[i] = neuron_step<Neuron, R>(x[i], lanes.of(i), s, charged);
    if constexpr (Kept::kCharged) {
#pragma unroll
      for (int k = 0; k < Kept::kRows; k++) kept[k][i] = charged[Kept::of(k)];
    }
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) state[k][i] = s[k];
  }
}

template <class Neuron, class C, class T, Reset R, int V, bool Uniform>
__global__ void __launch_bounds__(kThreads<V>, 1) neuron_forward_kernel(const NeuronForward<Neuron> a) {
  const int64_t n = (static_cast<int64_t>(blockIdx.x) * kThreads<V> + threadIdx.x) * V;
  SNNFAST_DYN_SHARED(char, shared);
  // A step that leaves something is a long one, in which ptxas would load each row next to its use.
  Sequence<T, V, Neuron::kLeft != 0> rows(a.x, a.T, n, a.N, shared);
  if (n >= a.N) return;
  const Lanes<Neuron, C, V, Uniform> lanes(a, n);
  C state[Neuron::kStates][V];
  load_initial_state(a, lanes, n, state);
  const int64_t every = a.checkpoints_out ? a.checkpoint_every : a.T;
  // One address moves: where the spikes stand, and with them the membranes, which may not be wanted.
  constexpr uintptr_t kWidth = sizeof(C) / sizeof(T);
  const uintptr_t stride = static_cast<uintptr_t>(a.N) * sizeof(T),
                  v_from = reinterpret_cast<uintptr_t>(a.v_seq) - reinterpret_cast<uintptr_t>(a.spikes) * kWidth;
  uintptr_t spikes_at = reinterpret_cast<uintptr_t>(a.spikes) + static_cast<uintptr_t>(n) * sizeof(T);
  const bool keeps_v = a.v_seq;
  C* checkpoint = a.checkpoints_out ? static_cast<C*>(a.checkpoints_out) + n : nullptr;
  for (int64_t begin = 0; begin < a.T; begin += every) {
    if (begin > 0) {
#pragma unroll
      for (int k = 0; k < Neuron::kStates; k++, checkpoint += a.N) store<C, V>(checkpoint, 0, state[k]);
    }
    rows.each(begin, a.T - begin < every ? a.T : begin + every, [&](const Pack<T, V>& row) {
      C x[V], spikes[V], kept[Kept<Neuron, Uniform>::kRows][V];
      widen(row, x);
      step<Neuron, C, R, V, Uniform>(x, lanes, state, spikes, kept);
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

// The default surrogate has kernels of its own; for the others, Surrogate::count, it is a run-time choice: the branch is the same for
// all threads, and as template arguments they would multiply the kernels to compile.
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

// Whether a thread takes the surrogate's derivatives of all steps under way at once: one choice of the surrogate for them, and no step
// waits for another's. Of few neurons, whose time that is; of many it would cost more registers than it gains.
template <class Neuron, Reset R, int V, bool Uniform>
constexpr bool kSlopesAhead = V == 1 && R != Reset::none && Kept<Neuron, Uniform>::kCharged;

// Gradient of one step of V neurons. kept: the rows of Kept; slope: the surrogate's derivatives if kSlopesAhead; grad: dL/d(states
// after), becomes dL/d(states before).
template <class Neuron, class C, Reset R, int V, bool Uniform, Surrogate S>
__device__ __forceinline__ void step_backward(const NeuronBackward<Neuron>& a, const Lanes<Neuron, C, V, Uniform>& lanes, const C* x, const C (*kept)[V],
                                              C* slope, const C* grad_spikes, const C* grad_v, C (*grad)[V], C (*grad_params)[V], C* grad_x) {
  using Kept = Kept<Neuron, Uniform>;
  C charged[V][Neuron::kTape] = {}, before[V][Neuron::kStates];
#pragma unroll
  for (int i = 0; i < V; i++) {
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) before[i][k] = Kept::kCharged ? C(0) : kept[Kept::kCharged ? 0 : k][i];
    if constexpr (Kept::kCharged) {
#pragma unroll
      for (int k = 0; k < Kept::kRows; k++) charged[i][Kept::of(k)] = kept[k][i];
    } else {
      C s[Neuron::kStates];
#pragma unroll
      for (int k = 0; k < Neuron::kStates; k++) s[k] = before[i][k];
      constexpr int kCharged = Neuron::kTape - Neuron::kLeft;
      Neuron::charge(x[i], lanes.of(i), s, charged[i] + kCharged);
#pragma unroll
      for (int k = 0; k < kCharged; k++) charged[i][k] = s[k];
    }
    if constexpr (!kSlopesAhead<Neuron, R, V, Uniform>) slope[i] = neuron_margin<Neuron>(charged[i], lanes.of(i));
  }
  C settings[Neuron::kSettings];
  neuron_settings(a, settings);
  const C attached = a.detach_reset ? C(0) : C(1);
  if constexpr (R != Reset::none && !kSlopesAhead<Neuron, R, V, Uniform>) derivatives<S, C, V>(a.surrogate, slope, static_cast<C>(a.alpha), slope);
#pragma unroll
  for (int i = 0; i < V; i++) {
    C g[Neuron::kStates], gp[Neuron::kParams];
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) g[k] = grad[k][i];
#pragma unroll
    for (int k = 0; k < Neuron::kParams; k++) gp[k] = shared_by_all<Neuron, Uniform>(k, Neuron::kParams) ? C(0) : grad_params[k][i];
    g[0] += grad_v[i];
    grad_x[i] = neuron_step_backward<Neuron, R>(x[i], before[i], charged[i], lanes.of(i), settings, grad_spikes[i], slope[i], attached, g, gp);
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) grad[k][i] = g[k];
#pragma unroll
    for (int k = 0; k < Neuron::kParams; k++)
      if (!shared_by_all<Neuron, Uniform>(k, Neuron::kParams)) grad_params[k][i] = gp[k];
  }
}

// The gradients that come from the step after, of spikes; a readout has none but of membranes.
template <class C, class T, Reset R>
using Incoming = std::conditional_t<R == Reset::none, C, T>;

template <class Neuron, class C, class T, Reset R, int V, bool Uniform, Surrogate S>
__global__ void __launch_bounds__(kThreads<V>, 1) neuron_backward_kernel(const NeuronBackward<Neuron> a) {
  using Column = Pack<C, V>;
  using Kept = Kept<Neuron, Uniform>;
  constexpr bool kNarrow = V == 1;
  SNNFAST_DYN_SHARED(Column, columns);  // [steps of a segment][rows of Kept][kThreads<V>]
  const int64_t n = (static_cast<int64_t>(blockIdx.x) * kThreads<V> + threadIdx.x) * V, K = a.checkpoint_every, longest = min(a.T, K);
  if (n >= a.N) return;
  const Lanes<Neuron, C, V, Uniform> lanes(a, n);
  const auto column = [&](int j, int k) -> Column& { return columns[(j * Kept::kRows + k) * kThreads<V> + threadIdx.x]; };
  C grad[Neuron::kStates][V], grad_params[Neuron::kParams][V], state[Neuron::kStates][V];
#pragma unroll
  for (int k = 0; k < Neuron::kStates; k++) load_neurons<C, V>(a.grad_state_out[k], n, C(0), grad[k]);
#pragma unroll
  for (int k = 0; k < Neuron::kParams; k++)
#pragma unroll
    for (int i = 0; i < V; i++) grad_params[k][i] = C(0);
  const auto load_state = [&](int64_t segment) {  // before it
    if (segment <= 0) return load_initial_state(a, lanes, n, state);
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++)
      load_neurons<C, V>(static_cast<const C*>(a.checkpoints) + ((segment - 1) * Neuron::kStates + k) * a.N, n, C(0), state[k]);
  };

  using G = Incoming<C, T, R>;
  constexpr int kTiles = Segments<C, 1>::kTiles;
  char* const behind = reinterpret_cast<char*>(columns + longest * Kept::kRows * kThreads<V>);
  const Segments<T, V> all_x(a.x, behind, longest, n, a.N);
  const Segments<G, V, false> all_grads(R == Reset::none ? a.grad_v_seq : a.grad_spikes, behind + Segments<T, V>::bytes(longest), longest, n, a.N);
  const auto copy = [&](int tile, int64_t segment) {
    if constexpr (!kNarrow) return;
    const int64_t begin = segment * K, steps = min(a.T - begin, K);
    if (segment >= 0) all_x.copy(tile, begin, steps), all_grads.copy(tile, begin, steps);
    copies_commit();
  };
  const int64_t last = (a.T + K - 1) / K - 1;
#pragma unroll 1
  for (int k = 0; k < kTiles; k++) copy(k, last - k);
  if (kNarrow) load_state(last);
  const auto grad_v_before = [&](int64_t t) { return Reader<C, V>::optional(a.grad_v_seq, t, n); };
  const auto grad_x_before = [&](int64_t t) { return static_cast<char*>(a.grad_x) + (t * a.N + n) * static_cast<int64_t>(sizeof(T)); };
  const int64_t grad_x_stride = a.N * static_cast<int64_t>(sizeof(T));
  auto grad_v_rows = grad_v_before(a.T);
  char* grad_x_row = grad_x_before(a.T);
  int tile = 0;
  for (int64_t segment = last; segment >= 0; segment--) {
    const int64_t begin = segment * K;
    const int steps = static_cast<int>(min(a.T - begin, K));
    if constexpr (kNarrow) {
      copies_wait<kTiles - 1>();
      __syncwarp();
    } else {  // again, or they would take registers meanwhile
      load_state(segment);
      grad_v_rows = grad_v_before(begin + steps);
      grad_x_row = grad_x_before(begin + steps);
    }
    auto x_rows = all_x.from(tile, begin, 0);
    auto grad_rows = all_grads.from(tile, begin, steps);
    constexpr bool kTwice = !kNarrow && Neuron::kLeft != 0;  // as in the forward pass
    Pack<T, V> ahead[kTwice ? kUnroll<V> : 1];
    if (kTwice && steps >= kUnroll<V>) {
#pragma unroll
      for (int u = 0; u < kUnroll<V>; u++) ahead[kTwice ? u : 0] = x_rows.load(u);
    }
    in_groups<V>(0, steps, [&](auto count, int j) {
      constexpr int kSteps = decltype(count)::value, kNext = kTwice && kSteps == kUnroll<V> ? kSteps : 0;
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
        C x[V], spikes[V], kept[Kept::kRows][V];
        widen(rows[u], x);
        step<Neuron, C, R, V, Uniform>(x, lanes, state, spikes, kept);
#pragma unroll
        for (int k = 0; k < Kept::kRows; k++)
#pragma unroll
          for (int i = 0; i < V; i++) column(j + u, k).at[i] = kept[k][i];
      }
    });
    if (kNarrow && segment > 0) load_state(segment - 1);
    in_groups_back<V>(steps, [&](auto count, int j) {
      constexpr int kSteps = decltype(count)::value;
      Pack<T, V> rows[kSteps] = {};  // bits of zeros are 0
      Pack<G, V> grads[kSteps];
      Pack<C, V> of_v[kSteps] = {};
      if constexpr (!Kept::kCharged) {
        x_rows.skip(-kSteps);
#pragma unroll
        for (int u = 0; u < kSteps; u++) rows[u] = x_rows.load(u);
      }
      grad_rows.skip(-kSteps);
      grad_v_rows.skip(-kSteps);
#pragma unroll
      for (int u = 0; u < kSteps; u++) grads[u] = grad_rows.load(u);
      // Of many neurons without a condition, before which ptxas would wait for the other loads.
      if (R != Reset::none && (!kNarrow || a.grad_v_seq.data)) {
#pragma unroll
        for (int u = 0; u < kSteps; u++) of_v[u] = grad_v_rows.load(u);
      }
      C slopes[kSteps][V] = {};
      if constexpr (kSlopesAhead<Neuron, R, V, Uniform>) {
#pragma unroll
        for (int u = 0; u < kSteps; u++) {
          C charged[Neuron::kTape] = {};
#pragma unroll
          for (int k = 0; k < Kept::kRows; k++) charged[Kept::of(k)] = column(j + u, k).at[0];
          slopes[u][0] = neuron_margin<Neuron>(charged, lanes.of(0));
        }
        derivatives<S, C, kSteps>(a.surrogate, slopes[0], static_cast<C>(a.alpha), slopes[0]);
      }
#pragma unroll
      for (int u = kSteps - 1; u >= 0; u--) {
        C x[V], grad_spikes[V] = {}, grad_v[V], kept[Kept::kRows][V], grad_x[V];
        widen(rows[u], x);
        widen(grads[u], R == Reset::none ? grad_v : grad_spikes);
        if constexpr (R != Reset::none) widen(of_v[u], grad_v);
#pragma unroll
        for (int k = 0; k < Kept::kRows; k++)
#pragma unroll
          for (int i = 0; i < V; i++) kept[k][i] = column(j + u, k).at[i];
        step_backward<Neuron, C, R, V, Uniform, S>(a, lanes, x, kept, slopes[u], grad_spikes, grad_v, grad, grad_params, grad_x);
        grad_x_row -= grad_x_stride;
        store<T, V>(grad_x_row, 0, grad_x);
      }
    });
    if constexpr (kNarrow) __syncwarp();
    copy(tile, segment - kTiles);
    tile = tile + 1 < kTiles ? tile + 1 : 0;
  }
#pragma unroll
  for (int k = 0; k < Neuron::kStates; k++)
    if (a.grad_state_in[k]) store<C, V>(a.grad_state_in[k], n, grad[k]);
  if constexpr (!Uniform) {
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
  if constexpr (!kAlike<Neuron, Uniform>) {
#pragma unroll
    for (int k = 0; k < Neuron::kParams; k++)
      if (a.grad_param[k]) store<C, V>(a.grad_param[k], n, grad_params[k]);
  }
}

// ---- launchers: from run-time choices to template arguments

constexpr int kShared = 48 * 1024;  // bytes that a block may have without asking

// Neurons a thread: 16 bytes of T, but fewer of many states; in the backward pass, of which a step keeps `rows`, no more than shared
// memory holds.
template <class Neuron, class T, bool Uniform>
constexpr int wide(int rows = 0) {
  if (Neuron::kSeldom) return 1;
  int numbers = static_cast<int>(16 / sizeof(T)) / Neuron::kStates;
  while (numbers > 1 && 16 * rows * kThreads<2> * static_cast<int>(sizeof(T)) * numbers > kShared) numbers /= 2;
  return kAlike<Neuron, Uniform> || numbers < 2 ? numbers : numbers / 2;  // parameters and their gradients take a register a neuron each
}

template <class Neuron, class C, class T, Reset R, bool Uniform>
int launch_forward(const NeuronForward<Neuron>& a, cudaStream_t stream) {
  constexpr int V = wide<Neuron, T, Uniform>();
  // Outputs are fresh allocations, aligned whenever N is a multiple of V.
  if (scan_aligned<C, T, V>(a))
    SNNFAST_LAUNCH((neuron_forward_kernel<Neuron, C, T, R, V, Uniform>), blocks<V>(a.N), kThreads<V>, (Sequence<T, V>::kShared), stream, a);
  else
    SNNFAST_LAUNCH((neuron_forward_kernel<Neuron, C, T, R, 1, Uniform>), blocks<1>(a.N), kThreads<1>, (Sequence<T, 1>::kShared), stream, a);
  return cudaGetLastError();
}

template <class Neuron, class C, class T, Reset R, bool Uniform, Surrogate S, int V>
int launch_backward(const NeuronBackward<Neuron>& a, cudaStream_t stream) {
  const int64_t steps = min(a.T, a.checkpoint_every), columns = steps * Kept<Neuron, Uniform>::kRows * kThreads<V> * V * static_cast<int64_t>(sizeof(C));
  const int64_t shared = columns + Segments<T, V>::bytes(steps) + Segments<Incoming<C, T, R>, V>::bytes(steps);
  if (shared > kShared) return cudaErrorInvalidValue;  // more steps between checkpoints than shared memory holds
  SNNFAST_LAUNCH((neuron_backward_kernel<Neuron, C, T, R, V, Uniform, S>), blocks<V>(a.N), kThreads<V>, static_cast<size_t>(shared), stream, a);
  return cudaGetLastError();
}
template <class Neuron, class C, class T, Reset R, bool Uniform, Surrogate S>
int launch_backward(const NeuronBackward<Neuron>& a, cudaStream_t stream) {
  constexpr int V = wide<Neuron, C, Uniform>(Kept<Neuron, Uniform>::kRows);  // of C, whose states and gradients fill the registers
  bool vector = scan_aligned<C, T, V>(a) && rows_aligned<T, V>(a.grad_spikes) && rows_aligned<C, V>(a.grad_v_seq);
  for (int k = 0; k < Neuron::kStates; k++) vector = vector && aligned(a.grad_state_out[k], sizeof(C) * V);
  return vector ? launch_backward<Neuron, C, T, R, Uniform, S, V>(a, stream) : launch_backward<Neuron, C, T, R, Uniform, S, 1>(a, stream);
}

// Overloads on what is launched, so that the choice of template arguments is written once.
template <class Neuron, class C, class T, Reset R>
int launch_scan(const NeuronForward<Neuron>& a, cudaStream_t stream) {
  return !Neuron::kSeldom && a.uniform() ? launch_forward<Neuron, C, T, R, !Neuron::kSeldom>(a, stream) : launch_forward<Neuron, C, T, R, false>(a, stream);
}
template <class Neuron, class C, class T, Reset R, bool Uniform>
int launch_backward(const NeuronBackward<Neuron>& a, cudaStream_t stream) {
  constexpr bool kOwn = !Neuron::kSeldom && R != Reset::none;
  return kOwn && a.surrogate == static_cast<int32_t>(Surrogate::atan)
             ? launch_backward<Neuron, C, T, R, Uniform, kOwn ? Surrogate::atan : Surrogate::count>(a, stream)
             : launch_backward<Neuron, C, T, R, Uniform, Surrogate::count>(a, stream);
}
template <class Neuron, class C, class T, Reset R>
int launch_scan(const NeuronBackward<Neuron>& a, cudaStream_t stream) {
  return !Neuron::kSeldom && a.uniform() ? launch_backward<Neuron, C, T, R, !Neuron::kSeldom>(a, stream) : launch_backward<Neuron, C, T, R, false>(a, stream);
}

template <class Neuron, class C, class T, class Scan>
int launch_as(const Scan& a, cudaStream_t stream) {
  switch (a.reset) {
    case Reset::hard: return launch_scan<Neuron, C, T, Reset::hard>(a, stream);
    case Reset::soft: return launch_scan<Neuron, C, T, Reset::soft>(a, stream);
    default:
      if constexpr (Neuron::kSeldom)
        return cudaErrorInvalidValue;
      else
        return launch_scan<Neuron, C, T, Reset::none>(a, stream);
  }
}

// Scan is NeuronForward or NeuronBackward.
template <class Neuron, class Scan>
int launch(const Scan& a, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  switch (a.x.dtype) {
    case Dtype::f32: return launch_as<Neuron, float, float>(a, stream);
    case Dtype::f64: return launch_as<Neuron, double, double>(a, stream);
    case Dtype::bf16: return launch_as<Neuron, float, BFloat16>(a, stream);
    default: return launch_as<Neuron, float, Half>(a, stream);
  }
}

}  // namespace
}  // namespace snnfast
