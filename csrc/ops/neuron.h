// Operators of neurons, except their maths and argument lists: checks, allocation and dispatch around one scan over
// time. These checks keep memory safe whoever calls torch.ops.snnfast; snnfast/reference checks first, with better
// messages.
#pragma once
#include "core/any_neuron.h"
#include "core/surrogate.h"
#include "ops/arguments.h"
#include "ops/scratch.h"

namespace snnfast {

Dtype dtype_of(const char* op, const char* name, const Tensor& t);

// Tensors as the scan reads them, checked against x [T, ...]. Owns the contiguous copies.
class NeuronTensors {
 public:
  NeuronTensors(const char* op, const Tensor& x);

  const char* op() const { return op_; }
  ScalarType state_type() const { return dtype_ == Dtype::f64 ? ScalarType::Double : ScalarType::Float; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t count() const { return count_; }

  // Output that was not requested.
  Tensor nothing() const;

  // Rows of a [T, ...] tensor: in place if a row is contiguous or repeats one value, else from a contiguous copy.
  // `wide`: a kernel loads several neighbours at a time, so one value for all steps, as in the gradient of a sum,
  // becomes one contiguous row.
  Rows rows(const Tensor& input, const char* name, bool wide = false);
  Rows optional_rows(const Optional& t, const char* name, ScalarType type, bool wide = false);
  // Rows [P, ...] before the first step, and their number.
  Rows past(const Optional& t, int64_t* steps);
  const void* neurons(const Optional& t, const char* name);
  const void* of_shape(const Tensor& t, const char* name, const std::vector<int64_t>& shape);

  // A parameter tensor holds one value, or covers a run of neuron dimensions with 1s around it: [C, 1, 1] for [B, C, H,
  // W].
  Param param(const Parameter& p, const char* name);

  const void* checkpoints(const Tensor& t, int64_t count, int64_t states) const;

 private:
  const char* op_;
  Tensor x_;
  Dtype dtype_;
  std::vector<int64_t> shape_;
  int64_t count_;  // of neurons
  std::vector<Tensor> copies_;

  const Tensor& keep(Tensor t);
};

inline int64_t checkpoint_count(int64_t T, int64_t every) { return every > 0 && T > 0 ? (T - 1) / every : 0; }

using Tensors = std::vector<Tensor>;
using Optionals = std::vector<Optional>;

// Arguments of a call of a neuron.
struct NeuronCall {
  const char* op;
  Tensor x;
  NeuronSizes sizes;
  Tensors more_inputs{};
  int64_t more_outputs = 0;
  std::vector<std::pair<const char*, Optional>> states{};       // by name
  std::vector<std::pair<const char*, Parameter>> parameters{};  // by name
  double settings[AnyNeuron::kSettings] = {};
  int64_t surrogate = 0;  // index in core/surrogate.h; alpha: its width
  double alpha = 1;
  bool fires = true, reads = true;  // fires: false for a readout; reads: there is a kernel for readouts
  bool hard_reset = true, detach_reset = false, return_state = true, return_v_seq = false;

  int64_t input_row(int64_t k) const { return sizes.first_input + k; }    // row of more_inputs[k] among the states
  int64_t output_row(int64_t k) const { return sizes.first_output + k; }  // row of a further output
};

// Fills in the fields of `a` that both passes have.
void fill_scan(const NeuronCall& call, NeuronTensors& tensors, NeuronScan<AnyNeuron>& a);

// Allocates the outputs of a forward pass and points `a` to them: spikes if wanted, more outputs, states, v_seq,
// checkpoints.
template <class Device>
Tensors forward_tensors(const NeuronCall& call, bool spikes_wanted, int64_t checkpoint_every, NeuronTensors& tensors,
                        const Device& device, NeuronForward<AnyNeuron>& a) {
  const Tensor& x = call.x;
  fill_scan(call, tensors, a);
  Tensors outputs;
  outputs.reserve(call.sizes.states + 3);
  const auto output = [&](bool wanted, const std::vector<int64_t>& shape, ScalarType type) {
    outputs.push_back(wanted ? device.allocate(x, shape, type) : tensors.nothing());
    return wanted ? outputs.back().mutable_data_ptr() : nullptr;
  };
  const ScalarType type = tensors.state_type();
  a.spikes = output(spikes_wanted, sizes_of(x), x.scalar_type());
  for (int64_t k = 0; k < call.more_outputs; k++) a.more_outputs[call.output_row(k)] = output(true, sizes_of(x), type);
  for (int64_t k = 0; k < call.sizes.first_input; k++)
    a.state_out[k] = output(call.return_state, tensors.shape(), type);
  a.v_seq = output(call.return_v_seq, sizes_of(x), type);
  std::vector<int64_t> checkpoints = tensors.shape();
  checkpoints.insert(checkpoints.begin(), {checkpoint_count(a.T, checkpoint_every), call.sizes.states});
  a.checkpoints_out = output(checkpoint_every > 0, checkpoints, type);
  a.checkpoint_every = checkpoint_every;
  return outputs;
}

// Arguments of a backward pass. Gradients: of spikes, more outputs, states, v_seq.
struct NeuronGradients {
  Tensor checkpoints;
  int64_t checkpoint_every;
  bool state_needed;
  Optionals grads;
  bool x_repeats = false;  // the gradient of x is its mean over the steps, [1, ...]
};

// Reads these, allocates the gradients of x, more inputs, states and parameters, and points `a` to them. Gradients of
// numbers are empty, and those of states unless they are needed.
template <class Device>
Tensors backward_tensors(const NeuronCall& call, const NeuronGradients& gradients, NeuronTensors& tensors,
                         const Device& device, NeuronBackward<AnyNeuron>& a) {
  const Tensor& x = call.x;
  const int64_t states = call.sizes.first_input;
  SNNFAST_CHECK(call.surrogate >= 0 && call.surrogate < static_cast<int64_t>(Surrogate::count), call.op,
                ": surrogate must be a number from 0 to ", static_cast<int64_t>(Surrogate::count) - 1, ", got ",
                call.surrogate);
  SNNFAST_CHECK(gradients.checkpoint_every >= 1, call.op, ": checkpoint_every must be at least 1, got ",
                gradients.checkpoint_every);
  SNNFAST_CHECK(!Device::kCuda || !gradients.x_repeats, call.op, ": x_repeats must be false on CUDA, got true");
  fill_scan(call, tensors, a);
  SNNFAST_CHECK(static_cast<int64_t>(gradients.grads.size()) == call.more_outputs + states + 2, call.op, ": expected ",
                call.more_outputs + states + 2, " gradients, got ", gradients.grads.size());
  a.checkpoints =
      tensors.checkpoints(gradients.checkpoints, checkpoint_count(a.T, gradients.checkpoint_every), call.sizes.states);
  a.checkpoint_every = gradients.checkpoint_every;
  auto grad = gradients.grads.begin();
  const auto rows = [&](const char* name, ScalarType type) {
    return tensors.optional_rows(*grad++, name, type, Device::kCuda);
  };
  a.grad_spikes = rows("grad_spikes", x.scalar_type());
  for (int64_t k = 0; k < call.more_outputs; k++)
    a.more_grad_outputs[call.output_row(k)] = rows("the gradient of an output", tensors.state_type());
  for (int64_t k = 0; k < states; k++) a.grad_state_out[k] = tensors.neurons(*grad++, "the gradient of a state");
  a.grad_v_seq = rows("grad_v_seq", tensors.state_type());
  a.surrogate = static_cast<int32_t>(call.surrogate);
  a.alpha = call.alpha;
  a.detach_reset = call.detach_reset;
  a.x_repeats = gradients.x_repeats;
  Tensors outputs;
  outputs.reserve(1 + call.more_inputs.size() + call.states.size() + call.parameters.size());
  const auto output = [&](bool wanted, const std::vector<int64_t>& shape, ScalarType type) {
    outputs.push_back(wanted ? device.allocate(x, shape, type) : tensors.nothing());
    return wanted ? outputs.back().mutable_data_ptr() : nullptr;
  };
  std::vector<int64_t> sizes = sizes_of(x);
  SNNFAST_CHECK(!gradients.x_repeats || a.T > 0, call.op, ": x must have at least one step where x_repeats, got none");
  if (gradients.x_repeats) sizes[0] = 1;
  a.grad_x = output(true, sizes, x.scalar_type());
  for (size_t k = 0; k < call.more_inputs.size(); k++)
    a.more_grad_inputs[call.input_row(static_cast<int64_t>(k))] = output(true, sizes, x.scalar_type());
  for (size_t k = 0; k < call.states.size(); k++)
    a.grad_state_in[k] = output(gradients.state_needed, tensors.shape(), tensors.state_type());
  for (size_t k = 0; k < call.parameters.size(); k++)
    a.grad_param[k] = output(call.parameters[k].second.tensor.has_value(), tensors.shape(), tensors.state_type());
  return outputs;
}

// Bytes of scratch per thread of a CPU's backward kernel.
inline size_t neuron_tape_bytes(const NeuronSizes& sizes, const NeuronBackward<AnyNeuron>& a) {
  const int64_t steps = std::max<int64_t>(std::min(a.T, a.checkpoint_every), 1);
  return sizeof(double) * static_cast<size_t>(steps * sizes.tape_rows * kNeuronBlock);
}

// Forward and backward pass. kernel: on CUDA (const NeuronForward<AnyNeuron>&, void* stream), returns a CUDA error
// code; on the CPU (..., int64_t begin, int64_t end), in the backward pass with scratch.
template <class Device, class Kernel>
Tensors neuron_forward(const NeuronCall& call, int64_t checkpoint_every, const Kernel& kernel) {
  NeuronTensors tensors(call.op, call.x);
  const Device device(call.x);
  NeuronForward<AnyNeuron> a{};
  Tensors outputs = forward_tensors(call, call.fires, checkpoint_every, tensors, device, a);
  if (a.N == 0) return outputs;
  if constexpr (Device::kCuda)
    device.launch(call.op, [&](void* stream) { return kernel(a, stream); });
  else
    device.parallel(a.N, a.T * call.sizes.states, [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
  return outputs;
}

template <class Device, class Kernel>
Tensors neuron_backward(const NeuronCall& call, const NeuronGradients& gradients, const Kernel& kernel) {
  NeuronTensors tensors(call.op, call.x);
  const Device device(call.x);
  NeuronBackward<AnyNeuron> a{};
  Tensors outputs = backward_tensors(call, gradients, tensors, device, a);
  if (a.N == 0) return outputs;
  if constexpr (Device::kCuda) {
    device.launch(call.op, [&](void* stream) { return kernel(a, stream); });
  } else {
    const size_t bytes = neuron_tape_bytes(call.sizes, a);
    device.parallel(a.N, 2 * a.T * call.sizes.states,
                    [&](int64_t begin, int64_t end) { kernel(a, begin, end, thread_scratch(bytes)); });
  }
  return outputs;
}

}  // namespace snnfast
