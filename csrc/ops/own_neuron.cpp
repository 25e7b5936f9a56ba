// The operators of every neuron that is compiled while the program runs: own_neuron_forward and own_neuron_backward,
// whose first argument names a kernel that load_own_kernel has loaded.
#include "core/own_neuron.h"

#include <dlfcn.h>

#include <mutex>
#include <unordered_map>

#include "cpu/dispatch.h"
#include "ops/recurrent.h"

SNNFAST_CPU_KERNEL(own_recurrent_forward,
                   (const RecurrentForward<OwnNeuron>&, const void* neuron, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(own_recurrent_backward,
                   (const RecurrentBackward<OwnNeuron>&, const void* neuron, int64_t begin, int64_t end, void* scratch))

namespace snnfast {
namespace {

// Kernels by name, for all devices. They stay loaded: a thread may be in one.
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

using Tensors = std::vector<Tensor>;

// The arguments of a call, checked, and what the kernel is given.
struct Call {
  const OwnKernel& kernel;
  NeuronTensors tensors;
  int64_t inputs, outputs, states;  // states that the step carries

  Call(const std::string& name, const Tensors& given, int64_t outputs)
      : kernel(kernel_of(name)),
        tensors(kName, first(given)),
        inputs(static_cast<int64_t>(given.size())),
        outputs(outputs),
        states(kernel.first_input) {
    SNNFAST_CHECK(inputs - 1 == kernel.first_output - kernel.first_input &&
                      outputs - 1 == kernel.states - kernel.first_output && kernel.states <= OwnNeuron::kStates,
                  kName, ": ", inputs, " inputs and ", outputs, " outputs do not fit the kernel ", name);
    const Dtype dtype = dtype_of(kName, "x", first(given)), state = dtype == Dtype::f64 ? dtype : Dtype::f32;
    SNNFAST_CHECK(kernel.dtype == (kernel.launches() ? dtype : state), kName, ": the kernel ", name,
                  " is not for x in ", text_of(first(given).scalar_type()));
  }

  // `function` of the kernel, which it has not for the other device, nor for neurons of the other kind.
  template <class Function>
  Function checked(Function function, const std::string& name) const {
    SNNFAST_CHECK(function, kName, ": the kernel ", name,
                  " is for another device, or not for neurons whose spikes come back to them, or only for these");
    return function;
  }

  int64_t input_place(int64_t k) const { return states + k - 1; }
  int64_t output_place(int64_t k) const { return states + inputs - 1 + k - 1; }

  template <class Scan>
  void fill(Scan& a, const Tensors& given, const Tensors& before, const std::vector<double>& numbers,
            const Tensors& parameters) {
    const Tensor& x = given[0];
    a.T = x.size(0);
    a.N = a.N_all = tensors.count();
    a.x = tensors.rows(x, "x");
    a.reset = Reset::hard;
    for (int64_t k = 1; k < inputs; k++) {
      const Tensor& t = given[static_cast<size_t>(k)];
      check_tensor(kName, "an input", t, x.scalar_type(), sizes_of(x), "x", x);
      a.more_inputs[input_place(k)] = tensors.rows(t, "an input");
    }
    SNNFAST_CHECK(before.empty() || static_cast<int64_t>(before.size()) == states, kName, ": expected ", states,
                  " states or none, got ", before.size());
    for (size_t k = 0; k < before.size(); k++) a.state_in[k] = tensors.neurons(before[k], "a state");
    const int64_t count = static_cast<int64_t>(numbers.size() + parameters.size());
    SNNFAST_CHECK(std::max<int64_t>(count, 1) == kernel.params, kName, ": expected ", kernel.params,
                  " parameters, got ", count);
    size_t k = 0;
    for (const double number : numbers) a.param[k++] = {nullptr, number, 1, 1};
    for (const Tensor& t : parameters) a.param[k++] = tensors.param({0., t}, "a parameter");
  }

  std::vector<int64_t> checkpoint_shape(int64_t T, int64_t every) const {
    std::vector<int64_t> shape = tensors.shape();
    shape.insert(shape.begin(), {checkpoint_count(T, every), kernel.states});
    return shape;
  }

  static constexpr const char* kName = "neuron";

 private:
  static const Tensor& first(const Tensors& given) {
    SNNFAST_CHECK(!given.empty(), kName, ": expected at least one input, got none");
    return given[0];
  }
};

// Allocates what a forward pass gives: the outputs, the states after the last step, the first state after every step,
// and checkpoints; what is not wanted is empty.
template <class Device>
Tensors outputs_of(const Call& call, const Device& device, const Tensor& x, bool return_v_seq, int64_t checkpoint_every,
                   NeuronForward<OwnNeuron>& a) {
  const NeuronTensors& tensors = call.tensors;
  Tensors result;
  const auto output = [&](bool wanted, const std::vector<int64_t>& shape, ScalarType type) {
    result.push_back(wanted ? device.allocate(x, shape, type) : tensors.nothing());
    return wanted ? result.back().mutable_data_ptr() : nullptr;
  };
  a.spikes = output(true, sizes_of(x), x.scalar_type());
  for (int64_t k = 1; k < call.outputs; k++)
    a.more_outputs[call.output_place(k)] = output(true, sizes_of(x), tensors.state_type());
  for (int64_t k = 0; k < call.states; k++) a.state_out[k] = output(true, tensors.shape(), tensors.state_type());
  a.v_seq = output(return_v_seq, sizes_of(x), tensors.state_type());
  a.checkpoints_out = output(checkpoint_every > 0, call.checkpoint_shape(a.T, checkpoint_every), tensors.state_type());
  a.checkpoint_every = checkpoint_every;
  return result;
}

// Allocates what a backward pass gives, the gradients of inputs, states and parameters, and reads what it is given: the
// gradients of outputs, of states and of the first state after every step; one without elements is 0.
template <class Device>
Tensors gradients_of(Call& call, const Device& device, const Tensor& x, const Tensors& states, size_t numbers,
                     size_t parameters, const Tensor& checkpoints, int64_t checkpoint_every, const Tensors& grads,
                     NeuronBackward<OwnNeuron>& a) {
  NeuronTensors& tensors = call.tensors;
  SNNFAST_CHECK(checkpoint_every >= 1, Call::kName, ": checkpoint_every must be at least 1, got ", checkpoint_every);
  SNNFAST_CHECK(static_cast<int64_t>(grads.size()) == call.outputs + call.states + 1, Call::kName, ": expected ",
                call.outputs + call.states + 1, " gradients, got ", grads.size());
  a.checkpoints = tensors.checkpoints(checkpoints, checkpoint_count(a.T, checkpoint_every), call.kernel.states);
  a.checkpoint_every = checkpoint_every;
  size_t at = 0;
  const auto given = [&]() {
    const Tensor& t = grads[at++];
    return t.numel() ? Optional(t) : Optional();
  };
  const auto rows = [&](ScalarType type) { return tensors.optional_rows(given(), "a gradient", type, Device::kCuda); };
  a.grad_spikes = rows(x.scalar_type());
  for (int64_t k = 1; k < call.outputs; k++) a.more_grad_outputs[call.output_place(k)] = rows(tensors.state_type());
  for (int64_t k = 0; k < call.states; k++) a.grad_state_out[k] = tensors.neurons(given(), "the gradient of a state");
  a.grad_v_seq = rows(tensors.state_type());
  Tensors result;
  const auto output = [&](const std::vector<int64_t>& shape, ScalarType type) {
    result.push_back(device.allocate(x, shape, type));
    return result.back().mutable_data_ptr();
  };
  a.grad_x = output(sizes_of(x), x.scalar_type());
  for (int64_t k = 1; k < call.inputs; k++)
    a.more_grad_inputs[call.input_place(k)] = output(sizes_of(x), x.scalar_type());
  for (size_t k = 0; k < states.size(); k++) a.grad_state_in[k] = output(tensors.shape(), tensors.state_type());
  for (size_t k = 0; k < parameters; k++) a.grad_param[numbers + k] = output(tensors.shape(), tensors.state_type());
  return result;
}

template <class Device>
Tensors forward(std::string name, Tensors inputs, Tensors states, std::vector<double> numbers, Tensors parameters,
                int64_t outputs, bool return_v_seq, int64_t checkpoint_every) {
  Call call(name, inputs, outputs);
  const Device device(inputs[0]);
  NeuronForward<OwnNeuron> a{};
  call.fill(a, inputs, states, numbers, parameters);
  const Tensors result = outputs_of(call, device, inputs[0], return_v_seq, checkpoint_every, a);
  if constexpr (Device::kCuda) {
    const auto launch = call.checked(call.kernel.launch_forward, name);
    if (a.N > 0) device.launch(Call::kName, [&](void* stream) { return launch(a, stream); });
  } else {
    const auto run = call.checked(call.kernel.forward, name);
    device.parallel(a.N, a.T * call.kernel.states, [&](int64_t begin, int64_t end) { run(a, begin, end); });
  }
  return result;
}

template <class Device>
Tensors backward(std::string name, Tensors inputs, Tensors states, std::vector<double> numbers, Tensors parameters,
                 int64_t outputs, Tensor checkpoints, int64_t checkpoint_every, Tensors grads) {
  Call call(name, inputs, outputs);
  const Device device(inputs[0]);
  NeuronBackward<OwnNeuron> a{};
  call.fill(a, inputs, states, numbers, parameters);
  const Tensors result = gradients_of(call, device, inputs[0], states, numbers.size(), parameters.size(), checkpoints,
                                      checkpoint_every, grads, a);
  if constexpr (Device::kCuda) {
    const auto launch = call.checked(call.kernel.launch_backward, name);
    if (a.N > 0) device.launch(Call::kName, [&](void* stream) { return launch(a, stream); });
  } else {
    const auto run = call.checked(call.kernel.backward, name);
    const int64_t steps = std::max<int64_t>(std::min(a.T, checkpoint_every), 1);
    const size_t bytes = sizeof(double) * static_cast<size_t>(steps * call.kernel.tape_rows * kNeuronBlock);
    device.parallel(a.N, 2 * a.T * call.kernel.states,
                    [&](int64_t begin, int64_t end) { run(a, begin, end, thread_scratch(bytes)); });
  }
  return result;
}

// run(begin, end, scratch) over `units` groups or parts of groups of samples.
template <class Run>
void in_units(const Cpu& device, const OwnKernel& kernel, const Recurrence& r, int64_t T, int64_t steps, bool backward,
              int64_t units, const Run& run) {
  const size_t bytes = static_cast<size_t>(
      RecurrentMemory<double>(nullptr, kernel.piece_rows, kernel.tape_rows, r, steps, backward).bytes);
  recurrent_units(device, r, T, units, bytes, run);
}

template <class Device>
Tensors recurrent_forward(std::string name, Tensor x, Tensors states, std::vector<double> numbers, Tensors parameters,
                          bool return_v_seq, Tensor weight, Optional past, Optional delay, int64_t checkpoint_every) {
  const Tensors inputs = {x};
  Call call(name, inputs, 1);
  const Device device(x);
  RecurrentForward<OwnNeuron> a{};
  call.fill(a, inputs, states, numbers, parameters);
  const Tensors result = outputs_of(call, device, x, return_v_seq, checkpoint_every, a);
  RecurrentTensors<Device> recurrent(device, x, call.tensors, weight, past, delay);
  const Recurrence& r = a.recurrence = recurrent.recurrence;
  a.columns = recurrent.states(device, x, call.tensors, call.kernel.states);
  if constexpr (Device::kCuda) {
    const auto launch = call.checked(call.kernel.launch_recurrent_forward, name);
    if (a.N > 0) device.launch(Call::kName, [&](void* stream) { return launch(a, stream); });
  } else {
    const void* const neuron = call.checked(call.kernel.recurrent_forward, name);
    if (a.N > 0)
      in_units(device, call.kernel, r, a.T, 1, false, RecurrentParts(a.N / r.H).groups,
               [&](int64_t begin, int64_t end, void* scratch) {
                 cpu::own_recurrent_forward()(a, neuron, begin, end, scratch);
               });
  }
  return result;
}

// Gradients of x, states and parameters, then of weight, past and delay; those of the last two are empty where there is
// none.
template <class Device>
Tensors recurrent_backward(std::string name, Tensor x, Tensors states, std::vector<double> numbers, Tensors parameters,
                           Tensor weight, Optional past, Optional delay, Tensor spikes, Tensor checkpoints,
                           int64_t checkpoint_every, Tensors grads) {
  const Tensors inputs = {x};
  Call call(name, inputs, 1);
  const Device device(x);
  RecurrentBackward<OwnNeuron> a{};
  call.fill(a, inputs, states, numbers, parameters);
  Tensors result =
      gradients_of(call, device, x, states, numbers.size(), parameters.size(), checkpoints, checkpoint_every, grads, a);
  const RecurrentTensors<Device> recurrent(device, x, call.tensors, weight, past, delay);
  const OwnKernel& kernel = call.kernel;
  const int64_t steps = std::min(a.T, checkpoint_every);
  RecurrentGradients<Device> more(device, x, call.tensors, recurrent.recurrence, past, delay.has_value(), spikes,
                                  recurrent_columns(kernel.states, kernel.params, kernel.tape_rows, steps), a);
  const Recurrence& r = a.recurrence;
  if constexpr (Device::kCuda) {
    const auto launch = call.checked(kernel.launch_recurrent_backward, name);
    if (a.N > 0) device.launch(Call::kName, [&](void* stream) { return launch(a, stream); });
  } else {
    const void* const neuron = call.checked(kernel.recurrent_backward, name);
    if (a.N > 0)
      in_units(device, kernel, r, a.T, steps, true, RecurrentParts(a.N / r.H).parts,
               [&](int64_t begin, int64_t end, void* scratch) {
                 cpu::own_recurrent_backward()(a, neuron, begin, end, scratch);
               });
  }
  more.sum(device, a);
  result.insert(result.end(), {more.weight, more.past, more.delay});
  return result;
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

// Loads the kernel of a shared library and gives it a name. Returns the steps between its checkpoints.
int64_t load_own_kernel(const std::string& name, const std::string& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  SNNFAST_CHECK(library, "neuron: ", path, " cannot be loaded: ", dlerror());
  const auto* const kernel = static_cast<const OwnKernel*>(dlsym(library, "snnfast_own_kernel"));
  SNNFAST_CHECK(kernel && kernel->forward_bytes == sizeof(RecurrentForward<OwnNeuron>) &&
                    kernel->backward_bytes == sizeof(RecurrentBackward<OwnNeuron>),
                "neuron: ", path, " was compiled for another version of snnfast");
  const std::lock_guard lock(kernels_mutex);
  kernels()[name] = kernel;
  return kernel->checkpoint_every;
}

#ifdef SNNFAST_CUDA_EMULATION
// This library is no module of Python's.
extern "C" __attribute__((visibility("default"))) int64_t snnfast_load_own_kernel(const char* name, const char* path) {
  return load_own_kernel(name, path);
}
#endif

}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
