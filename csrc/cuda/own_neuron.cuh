// CUDA kernels of one neuron that is compiled at run time. The generated source ends with
// SNNFAST_OWN_KERNEL(snnfast::own_neuron<its struct, its compute type, the type of x>()), or own_recurrent.
#pragma once
#include "core/any_neuron.h"
#include "cuda/neuron_launch.cuh"
#include "cuda/recurrent_kernel.cuh"

namespace snnfast {
namespace {

template <class T>
constexpr Dtype kDtype = sizeof(T) == 8                ? Dtype::f64
                         : sizeof(T) == 4              ? Dtype::f32
                         : std::is_same_v<T, BFloat16> ? Dtype::bf16
                                                       : Dtype::f16;

template <class Neuron, class C, class T>
int own_forward(const NeuronForward<AnyNeuron>& a, void* stream) {
  return launch_forward<Neuron, C, T, Reset::hard, true>(call_of<Neuron>(a), static_cast<cudaStream_t>(stream));
}
template <class Neuron, class C, class T>
int own_backward(const NeuronBackward<AnyNeuron>& a, void* stream) {
  return launch_backward<Neuron, C, T, Reset::hard, true, Surrogate::straight_through>(
      call_of<Neuron>(a), static_cast<cudaStream_t>(stream));
}
template <class Neuron, class C, class Scan>
int own_recurrent_scan(const Scan& a, void* stream) {
  return launch_recurrent_scan<Neuron, C, Reset::hard>(call_of<Neuron>(a), static_cast<cudaStream_t>(stream));
}

// Steps between checkpoints: as many as shared memory holds in blocks of few neurons, at most 16.
template <class Neuron, class C, class T>
constexpr int32_t own_checkpoint_every() {
  int32_t steps = 16;
  while (steps > 1 &&
         (backward_shared<Neuron, C, T, Reset::hard, true, 1, true>(steps) > kShared ||
          (kPairs<T, Reset::hard, true> && backward_shared<Neuron, C, T, Reset::hard, true, 2, true>(steps) > kShared)))
    steps /= 2;
  return steps;
}

template <class Neuron, class C, class T>
constexpr OwnKernel own_neuron() {
  OwnKernel kernel = own_kernel<Neuron>(kDtype<T>, own_checkpoint_every<Neuron, C, T>());
  kernel.launch_forward = &own_forward<Neuron, C, T>;
  kernel.launch_backward = &own_backward<Neuron, C, T>;
  return kernel;
}
template <class Neuron, class C, class T>
constexpr OwnKernel own_recurrent() {
  OwnKernel kernel = own_kernel<Neuron>(kDtype<T>, 16);
  kernel.launch_recurrent_forward = &own_recurrent_scan<Neuron, C, RecurrentForward<AnyNeuron>>;
  kernel.launch_recurrent_backward = &own_recurrent_scan<Neuron, C, RecurrentBackward<AnyNeuron>>;
  return kernel;
}

}  // namespace
}  // namespace snnfast
