// CPU kernels of one neuron that is compiled at run time. The generated source ends with
// SNNFAST_OWN_KERNEL(snnfast::cpu::own_neuron<its struct, its type>()).
#pragma once
#include "core/any_neuron.h"
#include "cpu/neuron_loop.h"
#include "cpu/rows.cpp"  // compiled once in the extension, which does not export it

namespace snnfast::cpu {
namespace {

constexpr int32_t kCheckpointEvery = 32;

template <class C>
constexpr Dtype kDtype = sizeof(C) == 8 ? Dtype::f64 : Dtype::f32;

template <class Neuron, class C>
void own_forward(const NeuronForward<AnyNeuron>& a, int64_t begin, int64_t end) {
  forward_uniform<Neuron, C, Reset::hard, true>(call_of<Neuron>(a), begin, end);
}

template <class Neuron, class C>
void own_backward(const NeuronBackward<AnyNeuron>& any, int64_t begin, int64_t end, void* scratch) {
  const NeuronBackward<Neuron> a = call_of<Neuron>(any);
  if constexpr (kInStrips<Neuron, C>)
    backward_strips<Neuron, C, Reset::hard>(a, begin, end, scratch);
  else
    backward_parameters<Neuron, C, Reset::hard, true>(a, begin, end, scratch);
  stream_done();
}

template <class Neuron, class C>
constexpr OwnKernel own_neuron() {
  OwnKernel kernel = own_kernel<Neuron>(kDtype<C>, kCheckpointEvery);
  kernel.forward = &own_forward<Neuron, C>;
  kernel.backward = &own_backward<Neuron, C>;
  return kernel;
}

}  // namespace
}  // namespace snnfast::cpu
