// Operators of neurons, except their maths and argument lists: checks, allocation and dispatch around
// one scan over time. These checks keep memory safe whoever calls torch.ops.snnfast; snnfast/calls checks first, with
// better words.
#pragma once
#include <type_traits>

#include "core/neuron.h"
#include "core/surrogate.h"
#include "ops/arguments.h"

namespace snnfast {

Dtype dtype_of(const char* op, const char* name, const Tensor& t);

// Tensors as the scan reads them, checked against x [T, ...]. Keeps the contiguous copies that it had to make.
class NeuronTensors {
 public:
  NeuronTensors(const char* op, const Tensor& x);

  const char* op() const { return op_; }
  ScalarType state_type() const { return dtype_ == Dtype::f64 ? ScalarType::Double : ScalarType::Float; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t count() const { return count_; }

  // An output that was not asked for.
  Tensor nothing() const;

  // A [T, ...] tensor as rows: in place where a row is contiguous or repeats one value, else from a contiguous copy.
  // `wide`: a kernel loads several neighbours at a time, so one value for all steps, as in the gradient of a sum,
  // becomes one contiguous row.
  Rows rows(const Tensor& given, const char* name, bool wide = false);
  Rows optional_rows(const Optional& t, const char* name, ScalarType type, bool wide = false);
  // The rows [P, ...] before the first step, and how many.
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
  std::vector<Tensor> kept_;

  const Tensor& keep(Tensor t);
};

inline int64_t checkpoint_count(int64_t T, int64_t every) { return every > 0 && T > 0 ? (T - 1) / every : 0; }

// The scan's input from an operator's arguments.
template <class Neuron, class Arguments>
NeuronScan<Neuron> neuron_scan(const Arguments& arguments, Reset reset, NeuronTensors& tensors) {
  NeuronScan<Neuron> a{};
  a.T = arguments.x.size(0);
  a.N = a.N_all = tensors.count();
  a.x = tensors.rows(arguments.x, "x");
  int state = 0, param = 0;
  arguments.each([&](const char* name, const auto& field) {
    using Field = std::decay_t<decltype(field)>;
    if constexpr (std::is_same_v<Field, State>) a.state_in[state++] = tensors.neurons(field.tensor, name);
    if constexpr (std::is_same_v<Field, Parameter>) a.param[param++] = tensors.param(field, name);
  });
  SNNFAST_CHECK(state == Neuron::kStates && param == Neuron::kParams,
                "snnfast: a neuron's arguments do not fit its maths");
  Neuron::settings(arguments, a.settings);
  a.reset = reset;
  return a;
}

// Memory of a CPU's backward kernel, a thread.
template <class Neuron>
size_t neuron_tape_bytes(const NeuronBackward<Neuron>& a) {
  const int64_t steps = std::max<int64_t>(std::min(a.T, a.checkpoint_every), 1);
  return sizeof(double) * static_cast<size_t>(steps * kNeuronTapeRows<Neuron> * kNeuronBlock);
}

template <class T, size_t>
using Each = T;

// The operators of one neuron. Kernels has forward(device, NeuronForward) and backward(device, NeuronBackward).
template <class Neuron, class Arguments, class Kernels, class Device,
          class States = std::make_index_sequence<Neuron::kStates>,
          class Params = std::make_index_sequence<Neuron::kParams>>
struct NeuronOperators;

template <class Neuron, class Arguments, class Kernels, class Device, size_t... S, size_t... P>
struct NeuronOperators<Neuron, Arguments, Kernels, Device, std::index_sequence<S...>, std::index_sequence<P...>> {
  static Reset reset(const Arguments& a) { return !a.fires ? Reset::none : a.hard_reset ? Reset::hard : Reset::soft; }

  static void check_reset(const Arguments& a, const NeuronTensors& tensors) {
    SNNFAST_CHECK(a.fires || Neuron::kReads, tensors.op(), ": fires must be true, got false");
  }

  using Forward = std::tuple<Tensor, Each<Tensor, S>..., Tensor, Tensor>;
  using Backward = std::tuple<Tensor, Each<Tensor, S>..., Each<Tensor, P>...>;

  // spikes, states, v_seq, checkpoints
  static Forward forward(const Arguments& arguments, int64_t checkpoint_every) {
    NeuronTensors tensors(Kernels::kName, arguments.x);
    const Device device(arguments.x);
    NeuronForward<Neuron> a{};
    const Forward outputs = forward_tensors(arguments, arguments.fires, checkpoint_every, tensors, device, a);
    if (a.N > 0) Kernels::forward(device, a);
    return outputs;
  }

  // Gradients of x, states and parameters. Those of numbers are empty, and those of states unless they are needed.
  // x_repeats: of x the mean over the steps, [1, ...].
  static Backward backward(const Arguments& arguments, bool x_repeats, Tensor checkpoints, int64_t checkpoint_every,
                           bool state_needed, Optional grad_spikes, Each<Optional, S>... grad_states,
                           Optional grad_v_seq) {
    SNNFAST_CHECK(!Device::kCuda || !x_repeats, Kernels::kName, ": x_repeats must be false on CUDA, got true");
    NeuronTensors tensors(Kernels::kName, arguments.x);
    const Device device(arguments.x);
    NeuronBackward<Neuron> a{};
    const Backward outputs = backward_tensors(arguments, x_repeats, checkpoints, checkpoint_every, state_needed,
                                              grad_spikes, grad_states..., grad_v_seq, tensors, device, a);
    if (a.N > 0) Kernels::backward(device, a);
    return outputs;
  }

  // Allocates the outputs of the forward pass, with or without the spikes; `a` is what the kernel is given.
  static Forward forward_tensors(const Arguments& arguments, bool spikes_wanted, int64_t checkpoint_every,
                                 NeuronTensors& tensors, const Device& device, NeuronForward<Neuron>& a) {
    const Tensor& x = arguments.x;
    check_reset(arguments, tensors);
    static_cast<NeuronScan<Neuron>&>(a) = neuron_scan<Neuron>(arguments, reset(arguments), tensors);
    const auto output = [&](bool wanted, const std::vector<int64_t>& shape, ScalarType type) {
      return wanted ? device.allocate(x, shape, type) : tensors.nothing();
    };
    const Tensor spikes = output(spikes_wanted, sizes_of(x), x.scalar_type());
    const Tensor v_seq = output(arguments.return_v_seq, sizes_of(x), tensors.state_type());
    std::vector<int64_t> checkpoint_shape = tensors.shape();
    checkpoint_shape.insert(checkpoint_shape.begin(), {checkpoint_count(a.T, checkpoint_every), Neuron::kStates});
    const Tensor checkpoints = output(checkpoint_every > 0, checkpoint_shape, tensors.state_type());
    const Tensor states[] = {
        (static_cast<void>(S), output(arguments.return_state, tensors.shape(), tensors.state_type()))...};
    for (int k = 0; k < Neuron::kStates; k++)
      a.state_out[k] = arguments.return_state ? states[k].mutable_data_ptr() : nullptr;
    a.spikes = spikes_wanted ? spikes.mutable_data_ptr() : nullptr;
    a.v_seq = arguments.return_v_seq ? v_seq.mutable_data_ptr() : nullptr;
    a.checkpoints_out = checkpoint_every > 0 ? checkpoints.mutable_data_ptr() : nullptr;
    a.checkpoint_every = checkpoint_every;
    return {spikes, states[S]..., v_seq, checkpoints};
  }

  // Allocates the outputs of the backward pass; `a` is what the kernel is given.
  static Backward backward_tensors(const Arguments& arguments, bool x_repeats, const Tensor& checkpoints,
                                   int64_t checkpoint_every, bool state_needed, const Optional& grad_spikes,
                                   const Each<Optional, S>&... grad_states, const Optional& grad_v_seq,
                                   NeuronTensors& tensors, const Device& device, NeuronBackward<Neuron>& a) {
    const Tensor& x = arguments.x;
    const char* op = tensors.op();
    SNNFAST_CHECK(
        arguments.surrogate.number >= 0 && arguments.surrogate.number < static_cast<int64_t>(Surrogate::count), op,
        ": surrogate must be a number from 0 to ", static_cast<int64_t>(Surrogate::count) - 1, ", got ",
        arguments.surrogate.number);
    SNNFAST_CHECK(checkpoint_every >= 1, op, ": checkpoint_every must be at least 1, got ", checkpoint_every);
    check_reset(arguments, tensors);
    static_cast<NeuronScan<Neuron>&>(a) = neuron_scan<Neuron>(arguments, reset(arguments), tensors);
    a.checkpoints = tensors.checkpoints(checkpoints, checkpoint_count(a.T, checkpoint_every), Neuron::kStates);
    a.checkpoint_every = checkpoint_every;
    a.grad_spikes = tensors.optional_rows(grad_spikes, "grad_spikes", x.scalar_type(), Device::kCuda);
    a.grad_v_seq = tensors.optional_rows(grad_v_seq, "grad_v_seq", tensors.state_type(), Device::kCuda);
    ((a.grad_state_out[S] = tensors.neurons(grad_states, "the gradient of a state")), ...);
    a.surrogate = static_cast<int32_t>(arguments.surrogate.number);
    a.alpha = arguments.surrogate.alpha;
    a.detach_reset = arguments.detach_reset;
    std::vector<int64_t> sizes = sizes_of(x);
    SNNFAST_CHECK(!x_repeats || a.T > 0, op, ": x must have at least one step where x_repeats, got none");
    if (x_repeats) sizes[0] = 1;
    const Tensor grad_x = device.allocate(x, sizes, x.scalar_type());
    a.grad_x = grad_x.mutable_data_ptr();
    a.x_repeats = x_repeats;
    const auto per_neuron = [&](bool wanted, void*& pointer) {
      const Tensor t = wanted ? device.allocate(x, tensors.shape(), tensors.state_type()) : tensors.nothing();
      pointer = wanted ? t.mutable_data_ptr() : nullptr;
      return t;
    };
    const Tensor states[] = {per_neuron(state_needed, a.grad_state_in[S])...};
    bool learned[Neuron::kParams];  // a tensor without elements has no data pointer, so the pointers do not tell
    int param = 0;
    arguments.each([&](const char*, const auto& field) {
      if constexpr (std::is_same_v<std::decay_t<decltype(field)>, Parameter>)
        learned[param++] = field.tensor.has_value();
    });
    const Tensor params[] = {per_neuron(learned[P], a.grad_param[P])...};
    return {grad_x, states[S]..., params[P]...};
  }
};

// Schemas of `op` from its arguments: what torch.ops.snnfast.<op>_forward and _backward take and give. `more`:
// arguments behind the neuron's, what of the forward pass the backward pass is given besides checkpoints, and gradients
// behind the neuron's.
struct MoreArguments {
  std::string arguments, kept, grads;
};
template <class Arguments, class Library>
void neuron_schemas(Library& m, const std::string& op, const MoreArguments& more = {}) {
  std::string states_out, grad_states, grads_in;
  Arguments{}.each([&](const char* name, const auto& field) {
    using Field = std::decay_t<decltype(field)>;
    const std::string s = name;
    if constexpr (std::is_same_v<Field, State>) {
      states_out += ", Tensor " + s + "_out";
      grad_states += ", Tensor? grad_" + s;
      grads_in += ", Tensor grad_" + s + "_in";
    }
    if constexpr (std::is_same_v<Field, Parameter>) grads_in += ", Tensor grad_" + s;
  });
  m.def(schema<Arguments>(op + "_forward", "(Tensor spikes" + states_out + ", Tensor v_seq, Tensor checkpoints)",
                          more.arguments + "int checkpoint_every")
            .c_str());
  m.def(schema<Arguments>(op + "_backward", "(Tensor grad_x" + grads_in + more.grads + ")",
                          more.arguments + more.kept +
                              "Tensor checkpoints, int checkpoint_every, bool state_needed, Tensor? grad_spikes" +
                              grad_states + ", Tensor? grad_v_seq")
            .c_str());
}

}  // namespace snnfast
