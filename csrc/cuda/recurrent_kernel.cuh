// The scan over time of recurrent neurons on CUDA: a block is a sample and runs through all steps, so only the threads
// of a block wait for each other. A thread has one neuron, whose states are in its registers, or, beyond
// kRecurrentThreads, several in memory; so are the arriving events, which are otherwise in shared memory. The weights
// are in shared memory if they fit, else they are read through the cache. With sparse connections
// (sparse_recurrent.cuh) all neurons are in memory.
#pragma once
#include "cuda/neuron_kernel.cuh"
#include "cuda/sparse_recurrent.cuh"

namespace snnfast {
namespace {

// Rows of numbers per neuron: in registers (kOne), or in columns [rows, N].
template <class C, int kRows, bool kOne>
struct Column {
  C mine[kOne ? kRows : 1];
  C* columns;
  int64_t N;

  __device__ __forceinline__ C get(int k, int64_t n) const { return kOne ? mine[kOne ? k : 0] : columns[k * N + n]; }
  __device__ __forceinline__ void set(int k, int64_t n, C value) {
    if (kOne)
      mine[kOne ? k : 0] = value;
    else
      columns[k * N + n] = value;
  }
};

// Neuron of a thread that has a single one, with loads that are in flight before its block meets.
template <bool kOne, class C>
struct Mine {
  bool has;
  int64_t n;

  __device__ __forceinline__ Mine(int64_t H, int64_t first) : has(kOne && threadIdx.x < H), n(first + threadIdx.x) {}
  __device__ __forceinline__ Bits<C> row(const Rows& x, int64_t t, int64_t steps) const {
    return has && t < steps ? bits_at<C>(x, t, n) : Bits<C>(0);
  }
};

template <class C>
__device__ __forceinline__ const C* staged_rows(const void* source, int64_t size, bool staged, C* memory) {
  const C* rows = static_cast<const C*>(source);
  if (!staged) return rows;
  for (int64_t k = threadIdx.x; k < size; k += blockDim.x) memory[k] = rows[k];
  __syncthreads();
  return memory;
}

// The block's recurrent_room; in shared memory it follows the weights.
template <bool kOne, class C>
__device__ __forceinline__ C* room_of_block(const Recurrence& r, bool staged, C* memory) {
  return kOne ? memory + (staged ? r.H * padded(r.H) : 0) : static_cast<C*>(r.room) + blockIdx.x * recurrent_room(r.H);
}

// Rows of input m.
template <class Neuron>
__device__ __forceinline__ const Rows& input_rows(const NeuronScan<Neuron>& a, [[maybe_unused]] int64_t m) {
  if constexpr (kHasMore<Neuron>)
    if (m > 0) return a.more_inputs[Neuron::kFirstInput + m - 1];
  return a.x;
}

// Further inputs of a neuron from `inputs`, those of all neurons of a sample, into their rows of the states.
template <class Neuron, class C>
__device__ __forceinline__ void further_inputs([[maybe_unused]] const C* inputs, [[maybe_unused]] int64_t H,
                                               [[maybe_unused]] int64_t i, [[maybe_unused]] C* state) {
  if constexpr (kHasMore<Neuron>)
#pragma unroll
    for (int k = Neuron::kFirstInput; k < Neuron::kFirstOutput; k++)
      state[k] = inputs[(k - Neuron::kFirstInput + 1) * H + i];
}

template <class Neuron, class C, class Rows_>
__device__ __forceinline__ void initial_state(const NeuronScan<Neuron>& a, const C* c, int64_t n, Rows_& state) {
#pragma unroll
  for (int k = 0; k < Neuron::kStates; k++) {
    const C* in = static_cast<const C*>(a.state_in[k]);
    state.set(k, n, in ? in[n] : Neuron::rest(k, c));
  }
}

template <class Neuron, class C, Reset R, bool kOne>
__global__ void __launch_bounds__(kRecurrentThreads, 1)
    recurrent_forward_kernel(const RecurrentForward<Neuron> a, bool staged) {
  SNNFAST_DYN_SHARED(C, memory);
  __shared__ Chunk<C> chunk;  // of sparse connections
  const Recurrence& r = a.recurrence;
  const int64_t H = r.H, width = padded(H), first = blockIdx.x * H;
  const bool sparse = !kOne && r.synapses.first;
  const SparseConnections<C> synapses(r, chunk, a.T, a.N);
  Events<C> events(room_of_block<kOne>(r, staged, memory), H);
  const C* rows = staged_rows<C>(r.to_post, H * width, staged, memory);
  const Rows spikes = {a.spikes, a.x.dtype, a.N, 1};
  Column<C, Neuron::kStates, kOne> state{{}, static_cast<C*>(a.columns), a.N};
  C c[Neuron::kCoefficients];
  for (int64_t i = threadIdx.x; i < H; i += blockDim.x) {
    neuron_coefficients<Neuron, C, 1>(a, first + i, &c);
    initial_state<Neuron>(a, c, first + i, state);
  }
  const Mine<kOne, C> mine(H, first);
  C last = C(0);  // of a thread with one neuron: its spike of the step before, as stored
  if (mine.has && !r.delay) last = spike_at<C>(spikes, r, -1, mine.n);
  Bits<C> ahead = mine.row(a.x, 0, a.T);
  for (int64_t t = 0; t < a.T; t++) {
    const Bits<C> x_bits = ahead;
    ahead = mine.row(a.x, t + 1, a.T);
    if (mine.has && r.delay) last = arriving<C>(spikes, r, a.T, t, mine.n);
    int32_t count = 0;
    if (sparse)
      synapses.begin_step(t, spikes, [&](int64_t m) { return input_rows<Neuron>(a, m); });
    else
      count = events.list(H, [&](int64_t i) { return kOne ? last : arriving<C>(spikes, r, a.T, t, first + i); });
    for (int64_t i = threadIdx.x; i < H; i += blockDim.x) {
      const int64_t n = first + i;
      const C x =
          sparse ? synapses.current[i]
                 : events.add(number_of<C>(kOne ? x_bits : bits_at<C>(a.x, t, n), a.x.dtype), rows, width, i, count);
      C s[Neuron::kStates], tape[Neuron::template kTape<false>];
      if constexpr (!kOne) neuron_coefficients<Neuron, C, 1>(a, n, &c);
#pragma unroll
      for (int k = 0; k < Neuron::kStates; k++) s[k] = state.get(k, n);
      if (a.checkpoints_out && t > 0 && t % a.checkpoint_every == 0)
#pragma unroll
        for (int k = 0; k < Neuron::kStates; k++)
          store<C, 1>(a.checkpoints_out, ((t / a.checkpoint_every - 1) * Neuron::kStates + k) * a.N + n, &s[k]);
      if (sparse) further_inputs<Neuron>(synapses.current, H, i, s);
      const C spike = Neuron::template step<R, false>(x, c, s, tape);
      last = put(a.spikes, a.x.dtype, t * a.N + n, spike);
      if (a.v_seq) store<C, 1>(a.v_seq, t * a.N + n, &s[0]);
#pragma unroll
      for (int k = 0; k < Neuron::kStates; k++) state.set(k, n, s[k]);
    }
  }
  for (int64_t i = threadIdx.x; i < H; i += blockDim.x)
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++)
      if (a.state_out[k]) static_cast<C*>(a.state_out[k])[first + i] = state.get(k, first + i);
}

template <class Neuron, class C, Reset R, bool kOne>
__global__ void __launch_bounds__(kRecurrentThreads, 1)
    recurrent_backward_kernel(const RecurrentBackward<Neuron> a, bool staged) {
  SNNFAST_DYN_SHARED(C, memory);
  enum {
    kGrad = Neuron::kStates,
    kGradParam = kGrad + Neuron::kStates,
    kReturned = kGradParam + Neuron::kParams,
    kGradDelay,
    kColumns
  };
  constexpr int kTape = Neuron::template kTape<false>;
  __shared__ Chunk<C> chunk;  // of sparse connections
  const Recurrence& r = a.recurrence;
  const int64_t H = r.H, width = padded(H), first = blockIdx.x * H, K = a.checkpoint_every;
  const bool sparse = !kOne && r.synapses.first;
  const SparseConnections<C> synapses(r, chunk, a.T, a.N);
  C* current = room_of_block<kOne>(r, staged, memory);  // dL/d(input of this step) of all neurons
  Events<C> events(current + H, H);
  const C* to_pre = staged_rows<C>(r.to_pre, H * width, staged, memory);
  const C* to_post = static_cast<const C*>(r.to_post);
  C* columns = static_cast<C*>(a.columns);
  const Mine<kOne, C> mine(H, first);
  Column<C, kColumns, kOne> column{{}, columns, a.N};
  const auto tape = [&](int64_t j, int k, int64_t n) -> C& {
    return columns[(kColumns + j * kNeuronTapeRows<Neuron> + k) * a.N + n];
  };
  C c[Neuron::kCoefficients];
  const C attached = a.detach_reset ? C(0) : C(1);

  // dL/d(spikes that arrive at step t), 0 outside the steps; all in memory with delays.
  const auto arrived = [&](int64_t t, int64_t n) {
    return t < 0 || t >= a.T ? C(0) : static_cast<const C*>(a.returned)[t * a.N + n];
  };
  // dL/d(spike of step t) through its arrivals; adds to the gradient of the delay.
  const auto through = [&](int64_t t, int64_t n) {
    if (sparse) return static_cast<const C*>(a.returned)[n];
    if (!r.delay) return t < -1 ? C(0) : column.get(kReturned, n);
    const Lag<C> lag = lag_of_neuron<C>(r, a.T, n);
    const C early = arrived(t + 1 + lag.steps, n), late = arrived(t + 2 + lag.steps, n),
            spike = spike_at<C>(a.spikes, r, t, n);
    if (lag.moves && spike != C(0)) column.set(kGradDelay, n, column.get(kGradDelay, n) + spike * (late - early));
    return lag.early * early + lag.late * late;
  };

  for (int64_t i = threadIdx.x; i < H; i += blockDim.x) {
    const int64_t n = first + i;
    neuron_coefficients<Neuron, C, 1>(a, n, &c);
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) {
      const C* in = static_cast<const C*>(a.grad_state_out[k]);
      column.set(kGrad + k, n, in ? in[n] : C(0));
    }
#pragma unroll
    for (int k = kGradParam; k < kColumns; k++) column.set(k, n, C(0));
  }
  for (int64_t segment = a.T ? (a.T - 1) / K : -1; segment >= 0; segment--) {
    const int64_t t0 = segment * K, steps = min(a.T - t0, K);
    for (int64_t i = threadIdx.x; i < H; i += blockDim.x) {
      const int64_t n = first + i;
      if constexpr (!kOne) neuron_coefficients<Neuron, C, 1>(a, n, &c);
      if (segment == 0)
        initial_state<Neuron>(a, c, n, column);
      else
#pragma unroll
        for (int k = 0; k < Neuron::kStates; k++)
          column.set(k, n, static_cast<const C*>(a.checkpoints)[((segment - 1) * Neuron::kStates + k) * a.N + n]);
    }
    Bits<C> ahead = mine.row(a.x, t0, a.T);
    const auto arrives = [&](int64_t t) {
      return mine.has && t < a.T ? arriving<C>(a.spikes, r, a.T, t, mine.n) : C(0);
    };
    C coming = arrives(t0);
    for (int64_t j = 0; j < steps; j++) {
      const int64_t t = t0 + j;
      const Bits<C> x_bits = ahead;
      const C arriving_spike = coming;
      ahead = mine.row(a.x, t + 1, a.T), coming = arrives(t + 1);
      int32_t count = 0;
      if (sparse)
        synapses.begin_step(t, a.spikes, [&](int64_t m) { return input_rows<Neuron>(a, m); });
      else
        count = events.list(
            H, [&](int64_t i) { return kOne ? arriving_spike : arriving<C>(a.spikes, r, a.T, t, first + i); });
      for (int64_t i = threadIdx.x; i < H; i += blockDim.x) {
        const int64_t n = first + i;
        const C x = sparse ? synapses.current[i]
                           : events.add(number_of<C>(kOne ? x_bits : bits_at<C>(a.x, t, n), a.x.dtype), to_post, width,
                                        i, count);
        C s[Neuron::kStates], written[kTape] = {};
        if constexpr (!kOne) neuron_coefficients<Neuron, C, 1>(a, n, &c);
#pragma unroll
        for (int k = 0; k < Neuron::kStates; k++) s[k] = column.get(k, n);
        if (sparse) further_inputs<Neuron>(synapses.current, H, i, s);
        Neuron::template step<R, false>(x, c, s, written);
#pragma unroll
        for (int k = 0; k < kTape; k++) tape(j, k, n) = written[k];
#pragma unroll
        for (int k = 0; k < Neuron::kStates; k++) column.set(k, n, s[k]);
      }
    }
    for (int64_t j = steps - 1; j >= 0; j--) {
      const int64_t t = t0 + j;
      if (sparse) synapses.begin_step_backward(t, a.grad_current, static_cast<C*>(a.returned));
      for (int64_t i = threadIdx.x; i < H; i += blockDim.x) {
        const int64_t n = first + i;
        if constexpr (!kOne) neuron_coefficients<Neuron, C, 1>(a, n, &c);
        C read[kTape], g[Neuron::kStates], gp[Neuron::kParams], grad_v = C(0);
        C grad_spike = a.grad_spikes.data ? number_at<C>(a.grad_spikes, t, n) : C(0);
#pragma unroll
        for (int k = 0; k < kTape; k++) read[k] = tape(j, k, n);
#pragma unroll
        for (int k = 0; k < Neuron::kStates; k++) g[k] = column.get(kGrad + k, n);
#pragma unroll
        for (int k = 0; k < Neuron::kParams; k++) gp[k] = column.get(kGradParam + k, n);
        if (a.grad_v_seq.data) widen(Reader<C, 1>(a.grad_v_seq, t, n).load(0), &grad_v);
        grad_spike += through(t, n);
        g[0] += grad_v;
        C slope = Neuron::template margin<R, false>(read, c);
        derivatives<Surrogate::count, C, 1>(a.surrogate, &slope, static_cast<C>(a.alpha), &slope);
        const C grad_x = Neuron::template step_backward<R, false>(read, c, grad_spike, slope, attached, g, gp);
        put(a.grad_x, a.x.dtype, t * a.N + n, grad_x);
        if (sparse) {
          C* inputs = synapses.inputs_back(a.grad_current, t);
          inputs[i] = grad_x;
          if constexpr (kHasMore<Neuron>)
#pragma unroll
            for (int k = Neuron::kFirstInput; k < Neuron::kFirstOutput; k++) {
              inputs[(k - Neuron::kFirstInput + 1) * H + i] = g[k];
              put(a.more_grad_inputs[k], a.x.dtype, t * a.N + n, g[k]);
            }
        } else {
          static_cast<C*>(a.grad_current)[t * a.N + n] = current[i] = grad_x;
        }
#pragma unroll
        for (int k = 0; k < Neuron::kStates; k++) column.set(kGrad + k, n, g[k]);
#pragma unroll
        for (int k = 0; k < Neuron::kParams; k++) column.set(kGradParam + k, n, gp[k]);
      }
      if (sparse) continue;
      __syncthreads();
      for (int64_t i = threadIdx.x; i < H; i += blockDim.x) {
        C sum = C(0);
        for (int64_t k = 0; k < H; k++) sum += current[k] * to_pre[k * width + i];
        if (r.delay)
          static_cast<C*>(a.returned)[t * a.N + first + i] = sum;
        else
          column.set(kReturned, first + i, sum);
      }
      __syncthreads();
    }
  }
  for (int64_t t = -1; sparse && t >= -r.K; t--) {
    synapses.begin_step_backward(t, a.grad_current, static_cast<C*>(a.returned));
    for (int64_t i = threadIdx.x; i < H; i += blockDim.x)
      put(a.grad_past, a.x.dtype, (t + r.K) * a.N + first + i, through(t, first + i));
  }
  for (int64_t i = threadIdx.x; i < H; i += blockDim.x) {
    const int64_t n = first + i;
    for (int64_t t = -1; !sparse && t >= -r.K; t--) {
      put(a.grad_past, a.x.dtype, (t + r.K) * a.N + n, through(t, n));
    }
    if (a.grad_delay) static_cast<C*>(a.grad_delay)[n] = column.get(kGradDelay, n);
    C gp[Neuron::kParams];
#pragma unroll
    for (int k = 0; k < Neuron::kParams; k++) gp[k] = column.get(kGradParam + k, n);
#pragma unroll
    for (int k = 0; k < Neuron::kStates; k++) {
      const C grad = column.get(kGrad + k, n);
      if (a.grad_state_in[k]) static_cast<C*>(a.grad_state_in[k])[n] = grad;
      if (!a.state_in[k]) Neuron::rest_backward(k, grad, gp);
    }
#pragma unroll
    for (int k = 0; k < Neuron::kParams; k++)
      if (a.grad_param[k]) static_cast<C*>(a.grad_param[k])[n] = gp[k];
  }
}

// ---- launchers

// Shared memory holds the room of a block, unless that is in global memory, and the weights if they fit beside it.
template <class C, class Kernel, class Scan>
int launch_samples(Kernel kernel, const Scan& a, cudaStream_t stream) {
  const int64_t H = a.recurrence.H, number = static_cast<int64_t>(sizeof(C)), weights = H * padded(H) * number;
  int64_t bytes = a.recurrence.room ? 0 : recurrent_room(H) * number;
  int device = 0;
  int64_t most = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = allow_shared(kernel, device, most);
  if (error != cudaSuccess) return error;
  const bool staged = !a.recurrence.synapses.first && bytes + weights <= most;
  if (staged) bytes += weights;
  const int64_t threads = H < kRecurrentThreads ? (H + 31) / 32 * 32 : kRecurrentThreads;
  SNNFAST_LAUNCH(kernel, static_cast<unsigned>(a.N / H), static_cast<unsigned>(threads), static_cast<size_t>(bytes),
                 stream, a, staged);
  return cudaGetLastError();
}

template <class Neuron, class C, Reset R>
int launch_recurrent_scan(const RecurrentForward<Neuron>& a, cudaStream_t stream) {
  return a.recurrence.room ? launch_samples<C>(recurrent_forward_kernel<Neuron, C, R, false>, a, stream)
                           : launch_samples<C>(recurrent_forward_kernel<Neuron, C, R, true>, a, stream);
}

template <class Neuron, class C, Reset R>
int launch_recurrent_scan(const RecurrentBackward<Neuron>& a, cudaStream_t stream) {
  return a.recurrence.room ? launch_samples<C>(recurrent_backward_kernel<Neuron, C, R, false>, a, stream)
                           : launch_samples<C>(recurrent_backward_kernel<Neuron, C, R, true>, a, stream);
}

template <class Neuron, class C, class Scan>
int launch_recurrent_as(const Scan& a, cudaStream_t stream) {
  return a.reset == Reset::hard ? launch_recurrent_scan<Neuron, C, Reset::hard>(a, stream)
                                : launch_recurrent_scan<Neuron, C, Reset::soft>(a, stream);
}

// Scan is RecurrentForward or RecurrentBackward.
template <class Neuron, class Scan>
int launch_recurrent(const Scan& a, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  return a.x.dtype == Dtype::f64 ? launch_recurrent_as<Neuron, double>(a, stream)
                                 : launch_recurrent_as<Neuron, float>(a, stream);
}

}  // namespace
}  // namespace snnfast
