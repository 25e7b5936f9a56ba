// Operators of all neurons that are compiled at run time: own_neuron_forward and own_neuron_backward, whose first
// argument names a kernel that load_own_kernel has loaded.
#include <dlfcn.h>

#include <mutex>
#include <unordered_map>

#include "cpu/dispatch.h"
#include "ops/recurrent.h"

SNNFAST_CPU_KERNEL(own_recurrent_forward,
                   (const RecurrentForward<AnyNeuron>&, const void* neuron, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(own_recurrent_backward,
                   (const RecurrentBackward<AnyNeuron>&, const void* neuron, int64_t begin, int64_t end, void* scratch))

namespace snnfast {
namespace {

// Kernels by name, for all devices. They stay loaded, since a thread may be running one.
std::mutex kernels_mutex;
std::unordered_map<std::string, const OwnKernel*>& kernels() {
  static auto* const all = new std::unordered_map<std::string, const OwnKernel*>;
  return *all;
}

const OwnKernel& kernel_of(const std::string& name) {
  const std::lock_guard lock(kernels_mutex);
  const auto found = kernels().find(name);
  SNNFAST_CHECK(found != kernels().end(), "neuron: the kernel ", name,
                " is not loaded in this process; import the module that defines the neuron and call it once, or call "
                "it without a program that was "
                "exported elsewhere");
  return *found->second;
}

constexpr const char* kName = "neuron";

// Checks that the kernel has `function`: it has none for the other device, nor for the other kind of neuron.
template <class Function>
Function checked(Function function, const std::string& name) {
  SNNFAST_CHECK(function, kName, ": the kernel ", name,
                " is for another device, or not for neurons whose spikes come back to them, or only for these");
  return function;
}

// Arguments of a call, checked against the kernel.
NeuronCall call_with(const OwnKernel& kernel, const std::string& name, const Tensors& inputs, const Tensors& states,
                     const std::vector<double>& numbers, const Tensors& parameters, int64_t outputs) {
  SNNFAST_CHECK(!inputs.empty(), kName, ": expected at least one input, got none");
  const NeuronSizes& sizes = kernel.sizes;
  const int64_t more_inputs = static_cast<int64_t>(inputs.size()) - 1;
  SNNFAST_CHECK(more_inputs == sizes.first_output - sizes.first_input &&
                    outputs - 1 == sizes.states - sizes.first_output && sizes.states <= AnyNeuron::kStates,
                kName, ": ", inputs.size(), " inputs and ", outputs, " outputs do not fit the kernel ", name);
  const Tensor& x = inputs[0];
  const Dtype dtype = dtype_of(kName, "x", x), state = dtype == Dtype::f64 ? dtype : Dtype::f32;
  SNNFAST_CHECK(kernel.dtype == (kernel.launches() ? dtype : state), kName, ": the kernel ", name, " is not for x in ",
                text_of(x.scalar_type()));
  SNNFAST_CHECK(states.empty() || static_cast<int32_t>(states.size()) == sizes.first_input, kName, ": expected ",
                sizes.first_input, " states or none, got ", states.size());
  const size_t count = numbers.size() + parameters.size();
  SNNFAST_CHECK(static_cast<int32_t>(std::max<size_t>(count, 1)) == sizes.params, kName, ": expected ", sizes.params,
                " parameters, got ", count);
  NeuronCall call{kName, x, sizes, Tensors(inputs.begin() + 1, inputs.end()), outputs - 1};
  for (const Tensor& t : states) call.states.push_back({"a state", t});
  for (const double number : numbers) call.parameters.push_back({"a parameter", {number, std::nullopt}});
  for (const Tensor& t : parameters) call.parameters.push_back({"a parameter", {0., t}});
  return call;
}

// A gradient without elements is 0.
NeuronGradients gradients_of(const Tensor& checkpoints, int64_t checkpoint_every, const Tensors& grads) {
  NeuronGradients gradients{checkpoints, checkpoint_every, true, {}};
  for (const Tensor& t : grads) gradients.grads.push_back(t.numel() ? Optional(t) : Optional());
  return gradients;
}

// Removes the gradients of numbers, which are empty.
Tensors without_numbers(Tensors grads, size_t inputs, size_t states, size_t numbers) {
  const auto first = grads.begin() + static_cast<int64_t>(inputs + states);
  grads.erase(first, first + static_cast<int64_t>(numbers));
  return grads;
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
Tensors forward(std::string name, Tensors inputs, Tensors states, std::vector<double> numbers, Tensors parameters,
                int64_t outputs, bool return_v_seq, int64_t checkpoint_every) {
  const OwnKernel& kernel = kernel_of(name);
  NeuronCall call = call_with(kernel, name, inputs, states, numbers, parameters, outputs);
  call.return_v_seq = return_v_seq;
  return neuron_forward<Device>(call, checkpoint_every, on<Device>(kernel.forward, kernel.launch_forward, name));
}

template <class Device>
Tensors backward(std::string name, Tensors inputs, Tensors states, std::vector<double> numbers, Tensors parameters,
                 int64_t outputs, Tensor checkpoints, int64_t checkpoint_every, Tensors grads) {
  const OwnKernel& kernel = kernel_of(name);
  const NeuronCall call = call_with(kernel, name, inputs, states, numbers, parameters, outputs);
  return without_numbers(neuron_backward<Device>(call, gradients_of(checkpoints, checkpoint_every, grads),
                                                 on<Device>(kernel.backward, kernel.launch_backward, name)),
                         inputs.size(), states.size(), numbers.size());
}

template <class Device>
Tensors recurrent_forward(std::string name, Tensor x, Tensors states, std::vector<double> numbers, Tensors parameters,
                          bool return_v_seq, Tensor weight, Optional past, Optional delay, int64_t checkpoint_every) {
  const OwnKernel& kernel = kernel_of(name);
  NeuronCall call = call_with(kernel, name, {x}, states, numbers, parameters, 1);
  call.return_v_seq = return_v_seq;
  const auto run = recurrent_on<Device>(kernel.recurrent_forward, kernel.launch_recurrent_forward, name);
  return recurrent_forward<Device>(call, {weight, past, delay}, checkpoint_every, run);
}

// Gradients of x, states and parameters, then of weight, past and delay; the last two are empty without past or delay.
template <class Device>
Tensors recurrent_backward(std::string name, Tensor x, Tensors states, std::vector<double> numbers, Tensors parameters,
                           Tensor weight, Optional past, Optional delay, Tensor spikes, Tensor checkpoints,
                           int64_t checkpoint_every, Tensors grads) {
  const OwnKernel& kernel = kernel_of(name);
  const NeuronCall call = call_with(kernel, name, {x}, states, numbers, parameters, 1);
  const auto run = recurrent_on<Device>(kernel.recurrent_backward, kernel.launch_recurrent_backward, name);
  return without_numbers(recurrent_backward<Device>(call, {weight, past, delay}, spikes,
                                                    gradients_of(checkpoints, checkpoint_every, grads), run),
                         1, states.size(), numbers.size());
}

template <class Library>
void schemas(Library& m) {
  m.def(
      "own_neuron_forward(str kernel, Tensor[] inputs, Tensor[] states, float[] numbers, Tensor[] parameters, int "
      "outputs, bool return_v_seq, int checkpoint_every) -> Tensor[]");
  m.def(
      "own_neuron_backward(str kernel, Tensor[] inputs, Tensor[] states, float[] numbers, Tensor[] parameters, int "
      "outputs, Tensor checkpoints, int checkpoint_every, Tensor[] grads) -> Tensor[]");
  m.def(
      "own_recurrent_forward(str kernel, Tensor x, Tensor[] states, float[] numbers, Tensor[] parameters, bool "
      "return_v_seq, Tensor weight, Tensor? past, Tensor? delay, int checkpoint_every) -> Tensor[]");
  m.def(
      "own_recurrent_backward(str kernel, Tensor x, Tensor[] states, float[] numbers, Tensor[] parameters, Tensor "
      "weight, Tensor? past, Tensor? delay, Tensor spikes, Tensor checkpoints, int checkpoint_every, Tensor[] grads) "
      "-> Tensor[]");
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("own_neuron_forward", TORCH_BOX(&forward<Device>));
  m.impl("own_neuron_backward", TORCH_BOX(&backward<Device>));
  m.impl("own_recurrent_forward", TORCH_BOX(&recurrent_forward<Device>));
  m.impl("own_recurrent_backward", TORCH_BOX(&recurrent_backward<Device>));
}

}  // namespace

// Loads the kernel of a shared library under a name. Returns the number of steps between its checkpoints.
int64_t load_own_kernel(const std::string& name, const std::string& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  SNNFAST_CHECK(library, "neuron: ", path, " cannot be loaded: ", dlerror());
  const auto* const kernel = static_cast<const OwnKernel*>(dlsym(library, "snnfast_own_kernel"));
  SNNFAST_CHECK(kernel && kernel->forward_bytes == sizeof(RecurrentForward<AnyNeuron>) &&
                    kernel->backward_bytes == sizeof(RecurrentBackward<AnyNeuron>),
                "neuron: ", path, " was compiled for another version of snnfast");
  const std::lock_guard lock(kernels_mutex);
  kernels()[name] = kernel;
  return kernel->checkpoint_every;
}

#ifdef SNNFAST_CUDA_EMULATION
// This library is not a Python module.
extern "C" __attribute__((visibility("default"))) int64_t snnfast_load_own_kernel(const char* name, const char* path) {
  return load_own_kernel(name, path);
}
#endif

}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
