// Launches of the scans of neuron_kernel.cuh: dispatch from run-time choices to template arguments.
#pragma once
#include "cuda/neuron_kernel.cuh"

namespace snnfast {
namespace {

constexpr int kShared = 48 * 1024;  // bytes that a block may have without opt-in

// Whether one kernel serves numbers and tensors and all surrogates, one neuron per thread: in float64, which is for
// gradient checks, and for some emulated neurons.
#ifdef SNNFAST_COMPACT
template <class Neuron, class C>
constexpr bool kOneKernel = true;
#else
template <class Neuron, class C>
constexpr bool kOneKernel = Neuron::kGeneric || sizeof(C) == 8;
#endif

// Neurons of a thread: 16 bytes of T, but fewer if there are many states; in the backward pass, where a step stores
// `rows`, no more than shared memory holds.
template <class Neuron, class T, bool Uniform>
constexpr int wide(int rows = 0) {
  if (kOneKernel<Neuron, T> || static_cast<int>(16 / sizeof(T)) < Neuron::kStates) return 1;
  int numbers = static_cast<int>(16 / sizeof(T)) / Neuron::kStates;
  while (numbers > 1 && 16 * rows * kThreads<false> * static_cast<int>(sizeof(T)) * numbers > kShared) numbers /= 2;
  return kAllShared<Neuron, Uniform> || numbers < 2
             ? numbers
             : numbers / 2;  // parameters and their gradients take one register per neuron
}

// Whether there are kernels with a pair of neurons per thread, for so many neurons that the GPU still has enough
// threads.
template <class T, Reset R, bool Uniform>
constexpr bool kPairs = Uniform && R != Reset::none && sizeof(T) == 2;

template <class Neuron, class C, class T, Reset R, bool Uniform, int V, bool Narrow>
int launch_forward(const NeuronForward<Neuron>& a, cudaStream_t stream) {
  const auto kernel = neuron_forward_kernel<Neuron, C, T, R, V, Uniform, Narrow>;
  SNNFAST_LAUNCH(kernel, (blocks<V, Narrow>(a.N)), kThreads<Narrow>, (Sequence<T, V, Narrow>::kShared), stream, a);
  return cudaGetLastError();
}
template <class Neuron, class C, class T, Reset R, bool Uniform>
int launch_forward(const NeuronForward<Neuron>& a, cudaStream_t stream) {
  constexpr int V = wide<Neuron, T, Uniform>();
  // Outputs are fresh allocations, aligned whenever N is a multiple of V.
  if (scan_aligned<C, T, V>(a, kStepsThatFill)) return launch_forward<Neuron, C, T, R, Uniform, V, V == 1>(a, stream);
  if constexpr (kPairs<T, R, Uniform>)
    if (scan_aligned<C, T, 2>(a, kStepsOfPairs)) return launch_forward<Neuron, C, T, R, Uniform, 2, true>(a, stream);
  return launch_forward<Neuron, C, T, R, Uniform, 1, true>(a, stream);
}

// Shared memory of a block of the backward pass, for `steps` steps between checkpoints.
template <class Neuron, class C, class T, Reset R, bool Uniform, int V, bool Narrow>
constexpr int64_t backward_shared(int64_t steps) {
  return steps * SavedRows<Neuron, Uniform>::kRows * kThreads<Narrow> * V * static_cast<int64_t>(sizeof(C)) +
         Segments<T, V, Narrow>::bytes(steps) + Segments<Incoming<C, T, R>, V, Narrow>::bytes(steps);
}

template <class Neuron, class C, class T, Reset R, bool Uniform, Surrogate S, int V, bool Narrow>
int launch_backward(const NeuronBackward<Neuron>& a, cudaStream_t stream) {
  const int64_t shared = backward_shared<Neuron, C, T, R, Uniform, V, Narrow>(min(a.T, a.checkpoint_every));
  if (shared > kShared) return cudaErrorInvalidValue;  // more steps between checkpoints than shared memory holds
  const auto kernel = neuron_backward_kernel<Neuron, C, T, R, V, Uniform, Narrow, S>;
  SNNFAST_LAUNCH(kernel, (blocks<V, Narrow>(a.N)), kThreads<Narrow>, static_cast<size_t>(shared), stream, a);
  return cudaGetLastError();
}
template <class C, class T, int V, class Neuron>
bool gradients_aligned(const NeuronBackward<Neuron>& a, int64_t steps) {
  bool ok = scan_aligned<C, T, V>(a, steps) && rows_aligned<T, V>(a.grad_spikes) && rows_aligned<C, V>(a.grad_v_seq);
  for (int k = 0; k < Neuron::kStates; k++) ok = ok && aligned(a.grad_state_out[k], sizeof(C) * V);
  if constexpr (kHasMore<Neuron>)
    for (int k = Neuron::kFirstOutput; k < Neuron::kStates; k++) ok = ok && rows_aligned<C, V>(a.more_grad_outputs[k]);
  return ok;
}
template <class Neuron, class C, class T, Reset R, bool Uniform, Surrogate S>
int launch_backward(const NeuronBackward<Neuron>& a, cudaStream_t stream) {
  constexpr int V = wide<Neuron, C, Uniform>(
      SavedRows<Neuron, Uniform>::kRows);  // V of C, whose states and gradients fill the registers
  if (gradients_aligned<C, T, V>(a, kStepsThatFill))
    return launch_backward<Neuron, C, T, R, Uniform, S, V, V == 1>(a, stream);
  if constexpr (kPairs<T, R, Uniform>)
    if (gradients_aligned<C, T, 2>(a, kStepsOfPairs))
      return launch_backward<Neuron, C, T, R, Uniform, S, 2, true>(a, stream);
  return launch_backward<Neuron, C, T, R, Uniform, S, 1, true>(a, stream);
}

// Overloads for the two passes, so that the choice of template arguments is written once.
template <class Neuron, class C, class T, Reset R>
int launch_scan(const NeuronForward<Neuron>& a, cudaStream_t stream) {
  return !kOneKernel<Neuron, C> && a.uniform() ? launch_forward<Neuron, C, T, R, !kOneKernel<Neuron, C>>(a, stream)
                                               : launch_forward<Neuron, C, T, R, false>(a, stream);
}
template <class Neuron, class C, class T, Reset R, bool Uniform>
int launch_backward(const NeuronBackward<Neuron>& a, cudaStream_t stream) {
  constexpr bool kSeparate = !kOneKernel<Neuron, C> && R != Reset::none;
  return kSeparate && a.surrogate == static_cast<int32_t>(Surrogate::atan)
             ? launch_backward<Neuron, C, T, R, Uniform, kSeparate ? Surrogate::atan : Surrogate::count>(a, stream)
             : launch_backward<Neuron, C, T, R, Uniform, Surrogate::count>(a, stream);
}
template <class Neuron, class C, class T, Reset R>
int launch_scan(const NeuronBackward<Neuron>& a, cudaStream_t stream) {
  return !kOneKernel<Neuron, C> && a.uniform() ? launch_backward<Neuron, C, T, R, !kOneKernel<Neuron, C>>(a, stream)
                                               : launch_backward<Neuron, C, T, R, false>(a, stream);
}

template <class Neuron, class C, class T, class Scan>
int launch_as(const Scan& a, cudaStream_t stream) {
  switch (a.reset) {
    case Reset::hard: return launch_scan<Neuron, C, T, Reset::hard>(a, stream);
    case Reset::soft: return launch_scan<Neuron, C, T, Reset::soft>(a, stream);
    default:
      if constexpr (Neuron::kReads)
        return launch_scan<Neuron, C, T, Reset::none>(a, stream);
      else
        return cudaErrorInvalidValue;
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
