// Operators of all neurons that are compiled at run time: own_neuron_forward and own_neuron_backward, whose first
// argument names a kernel that load_own_kernel has loaded.
#include "cpu/dispatch.h"
#include "ops/own_library.h"
#include "ops/recurrent.h"

SNNFAST_CPU_KERNEL(own_recurrent_forward,
                   (const RecurrentForward<AnyNeuron>&, const void* neuron, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(own_recurrent_backward,
                   (const RecurrentBackward<AnyNeuron>&, const void* neuron, int64_t begin, int64_t end, void* scratch))

namespace snnfast {
namespace {

constexpr const char* kName = "neuron";

const OwnKernel& kernel_of(const std::string& name) {
  const OwnKernel* const kernel = own_library(kName, name).neuron;
  SNNFAST_CHECK(kernel, kName, ": the kernel ", name, " is that of a plasticity rule");
  return *kernel;
}

// Checks that the kernel has `function`: it has none for the other device, nor for the other kind of neuron.
template <class Function>
Function checked(Function function, const std::string& name) {
  SNNFAST_CHECK(function, kName, ": the kernel ", name,
                " is for another device, or not for neurons whose spikes come back to them, or only for these");
  return function;
}

// Arguments of both passes. States: none, at rest, or all. Weight to record_events: for recurrent neurons, else none.
#define SNNFAST_OWN_NEURON_ARGUMENTS(FIELD) \
  FIELD(std::string, kernel)                \
  FIELD(std::vector<double>, numbers)       \
  FIELD(bool, return_v_seq)                 \
  FIELD(Optional, weight)                   \
  FIELD(Optional, past)                     \
  FIELD(Optional, delay)                    \
  FIELD(Optional, first)                    \
  FIELD(Optional, targets)                  \
  FIELD(Optional, steps)                    \
  FIELD(Optional, noise_table)              \
  FIELD(Optional, noise_weight)             \
  FIELD(Optional, noise_key)                \
  FIELD(Optional, part)                     \
  FIELD(Tensors, plasticity)                \
  FIELD(bool, record_events)                \
  FIELD(Tensors, inputs) FIELD(Tensors, states) FIELD(Tensors, parameters)
SNNFAST_ARGUMENTS(Arguments, SNNFAST_OWN_NEURON_ARGUMENTS)

Connections connections_of(const Arguments& a) {
  return {*a.weight,     a.past,         a.delay,     a.first, a.targets,    a.steps,
          a.noise_table, a.noise_weight, a.noise_key, a.part,  a.plasticity, a.record_events};
}

// The call, checked against the kernel.
NeuronCall call_with(const OwnKernel& kernel, const Arguments& a) {
  SNNFAST_CHECK(!a.inputs.empty(), kName, ": expected at least one input, got none");
  const NeuronSizes& sizes = kernel.sizes;
  SNNFAST_CHECK(static_cast<int32_t>(a.inputs.size()) - 1 == sizes.first_output - sizes.first_input &&
                    sizes.states <= AnyNeuron::kStates,
                kName, ": ", a.inputs.size(), " inputs do not fit the kernel ", a.kernel);
  const Tensor& x = a.inputs[0];
  const Dtype dtype = dtype_of(kName, "x", x), state = dtype == Dtype::f64 ? dtype : Dtype::f32;
  SNNFAST_CHECK(kernel.dtype == (kernel.launches() ? dtype : state), kName, ": the kernel ", a.kernel,
                " is not for x in ", text_of(x.scalar_type()));
  SNNFAST_CHECK(a.states.empty() || static_cast<int32_t>(a.states.size()) == sizes.first_input, kName, ": expected ",
                sizes.first_input, " states or none, got ", a.states.size());
  const size_t count = a.numbers.size() + a.parameters.size();
  SNNFAST_CHECK(static_cast<int32_t>(std::max<size_t>(count, 1)) == sizes.params, kName, ": expected ", sizes.params,
                " parameters, got ", count);
  NeuronCall call{kName, x, sizes, Tensors(a.inputs.begin() + 1, a.inputs.end()), sizes.states - sizes.first_output};
  for (size_t k = 0; k < static_cast<size_t>(sizes.first_input); k++)
    call.states.push_back({"a state", a.states.empty() ? Optional() : a.states[k]});
  for (const double number : a.numbers) call.parameters.push_back({"a parameter", {number, std::nullopt}});
  for (const Tensor& t : a.parameters) call.parameters.push_back({"a parameter", {0., t}});
  call.return_v_seq = a.return_v_seq;
  return call;
}

// Kernel for the device, `cpu` or `cuda`.
template <class Device, class OnCpu, class OnCuda>
auto on(OnCpu cpu, OnCuda cuda, const std::string& name) {
  if constexpr (Device::kCuda)
    return checked(cuda, name);
  else
    return checked(cpu, name);
}

// On the CPU, a loop in the extension runs the steps of a recurrent neuron.
struct RecurrentOnCpu {
  const void* neuron;
  void operator()(const RecurrentForward<AnyNeuron>& a, int64_t begin, int64_t end, void* scratch) const {
    cpu::own_recurrent_forward()(a, neuron, begin, end, scratch);
  }
  void operator()(const RecurrentBackward<AnyNeuron>& a, int64_t begin, int64_t end, void* scratch) const {
    cpu::own_recurrent_backward()(a, neuron, begin, end, scratch);
  }
};
template <class Device, class OnCuda>
auto recurrent_on(const void* neuron, OnCuda cuda, const std::string& name) {
  if constexpr (Device::kCuda)
    return checked(cuda, name);
  else
    return RecurrentOnCpu{checked(neuron, name)};
}

template <class Device>
Tensors forward(const Arguments& a, int64_t checkpoint_every) {
  const OwnKernel& kernel = kernel_of(a.kernel);
  const NeuronCall call = call_with(kernel, a);
  if (!a.weight)
    return neuron_forward<Device>(call, checkpoint_every, on<Device>(kernel.forward, kernel.launch_forward, a.kernel));
  return recurrent_forward<Device>(
      call, connections_of(a), checkpoint_every,
      recurrent_on<Device>(kernel.recurrent_forward, kernel.launch_recurrent_forward, a.kernel));
}

// Gradients of inputs, states and parameters, then of weight, past and delay. A gradient without elements is 0, and the
// result for numbers, and for what is not passed, is without elements.
template <class Device>
Tensors backward(const Arguments& a, Optional spikes, bool x_repeats, Tensor checkpoints, int64_t checkpoint_every,
                 bool state_needed, Tensors grads) {
  const OwnKernel& kernel = kernel_of(a.kernel);
  const NeuronCall call = call_with(kernel, a);
  SNNFAST_CHECK(!x_repeats || (a.inputs.size() == 1 && !a.weight), kName,
                ": x_repeats must be false for several inputs and for recurrent neurons, got true");
  NeuronGradients gradients{checkpoints, checkpoint_every, state_needed, {}, x_repeats};
  for (const Tensor& t : grads) gradients.grads.push_back(t.numel() ? Optional(t) : Optional());
  if (!a.weight)
    return neuron_backward<Device>(call, gradients, on<Device>(kernel.backward, kernel.launch_backward, a.kernel));
  SNNFAST_CHECK(spikes, kName, ": the gradient of recurrent neurons needs their spikes, got none");
  return recurrent_backward<Device>(
      call, connections_of(a), *spikes, gradients,
      recurrent_on<Device>(kernel.recurrent_backward, kernel.launch_recurrent_backward, a.kernel));
}

SNNFAST_OPERATOR("own_neuron_forward", forward, "Tensor[]", "int checkpoint_every")
SNNFAST_OPERATOR(
    "own_neuron_backward", backward, "Tensor[]",
    "Tensor? spikes, bool x_repeats, Tensor checkpoints, int checkpoint_every, bool state_needed, Tensor[] grads")

}  // namespace

}  // namespace snnfast
