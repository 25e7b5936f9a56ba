// Operators of the package's neurons: for each <stem>_forward and _backward, and recurrent_<stem>_.... Compiled once
// for all neurons, from lists that snnfast/compiler/neurons.py generates.
#include "core/neurons.h"

#include <iterator>
#include <string>
#include <utility>

#include "cpu/dispatch.h"
#include "ops/recurrent.h"

#define SNNFAST_DECLARE_NEURON(STEM, NEURON)                                                                         \
  SNNFAST_CPU_KERNEL(STEM##_forward, (const NeuronForward<AnyNeuron>&, int64_t begin, int64_t end))                  \
  SNNFAST_CPU_KERNEL(STEM##_backward, (const NeuronBackward<AnyNeuron>&, int64_t begin, int64_t end, void* scratch)) \
  SNNFAST_CPU_KERNEL(recurrent_##STEM##_forward,                                                                     \
                     (const RecurrentForward<AnyNeuron>&, int64_t begin, int64_t end, void* scratch))                \
  SNNFAST_CPU_KERNEL(recurrent_##STEM##_backward,                                                                    \
                     (const RecurrentBackward<AnyNeuron>&, int64_t begin, int64_t end, void* scratch))               \
  namespace snnfast {                                                                                                \
  int launch_##STEM##_forward(const NeuronForward<AnyNeuron>&, void* stream);                                        \
  int launch_##STEM##_backward(const NeuronBackward<AnyNeuron>&, void* stream);                                      \
  int launch_recurrent_##STEM##_forward(const RecurrentForward<AnyNeuron>&, void* stream);                           \
  int launch_recurrent_##STEM##_backward(const RecurrentBackward<AnyNeuron>&, void* stream);                         \
  }
SNNFAST_NEURONS(SNNFAST_DECLARE_NEURON)

namespace snnfast {
namespace {

struct PackageNeuron {
  const char *stem, *recurrent;  // names of operators
  const NeuronArgument* arguments;
  size_t count;
  NeuronSizes sizes;
  bool reads;
};
#define SNNFAST_PACKAGE_NEURON(STEM, NEURON)                                                                        \
  PackageNeuron{                                                                                                    \
      #STEM,         "recurrent_" #STEM, NEURON::kArguments, std::size(NEURON::kArguments), neuron_sizes<NEURON>(), \
      NEURON::kReads},
const PackageNeuron kNeurons[] = {SNNFAST_NEURONS(SNNFAST_PACKAGE_NEURON)};

// Kernels of neuron k.
template <class Device>
struct Kernels;
#ifndef SNNFAST_CUDA_EMULATION
template <>
struct Kernels<Cpu> {
  void (*forward)(const NeuronForward<AnyNeuron>&, int64_t, int64_t);
  void (*backward)(const NeuronBackward<AnyNeuron>&, int64_t, int64_t, void*);
  void (*recurrent_forward)(const RecurrentForward<AnyNeuron>&, int64_t, int64_t, void*);
  void (*recurrent_backward)(const RecurrentBackward<AnyNeuron>&, int64_t, int64_t, void*);

  static Kernels get(size_t k) {  // for this processor
#define SNNFAST_CPU_KERNELS(STEM, NEURON)                                                            \
  [] {                                                                                               \
    return Kernels{cpu::STEM##_forward(), cpu::STEM##_backward(), cpu::recurrent_##STEM##_forward(), \
                   cpu::recurrent_##STEM##_backward()};                                              \
  },
    static constexpr Kernels (*all[])() = {SNNFAST_NEURONS(SNNFAST_CPU_KERNELS)};
    return all[k]();
  }
};
#endif
#if defined(SNNFAST_WITH_CUDA) || defined(SNNFAST_CUDA_EMULATION)
template <>
struct Kernels<Cuda> {
  int (*forward)(const NeuronForward<AnyNeuron>&, void* stream);
  int (*backward)(const NeuronBackward<AnyNeuron>&, void* stream);
  int (*recurrent_forward)(const RecurrentForward<AnyNeuron>&, void* stream);
  int (*recurrent_backward)(const RecurrentBackward<AnyNeuron>&, void* stream);

  static Kernels get(size_t k) {
#define SNNFAST_CUDA_KERNELS(STEM, NEURON)                                                  \
  {&launch_##STEM##_forward, &launch_##STEM##_backward, &launch_recurrent_##STEM##_forward, \
   &launch_recurrent_##STEM##_backward},
    static constexpr Kernels all[] = {SNNFAST_NEURONS(SNNFAST_CUDA_KERNELS)};
    return all[k];
  }
};
#endif

// ---- arguments

// Arguments of an operator as PyTorch passes them, in the order of its schema. All must be taken, or their memory
// leaks.
class Stack {
 public:
  explicit Stack(StableIValue* at) : begin_(at), at_(at) {}

  template <class T>
  T take() {
    return torch::stable::detail::to<T>(*at_++);
  }
  void give(const Tensors& results) const {
    for (size_t k = 0; k < results.size(); k++) begin_[k] = torch::stable::detail::from(results[k]);
  }

 private:
  StableIValue *begin_, *at_;
};

NeuronCall take_call(Stack& stack, const PackageNeuron& neuron, const char* op) {
  NeuronCall call{op, Tensor(), neuron.sizes};
  call.reads = neuron.reads;
  call.states.reserve(static_cast<size_t>(neuron.sizes.states));
  call.parameters.reserve(static_cast<size_t>(neuron.sizes.params));
  for (size_t k = 0; k < neuron.count; k++) {
    const NeuronArgument& argument = neuron.arguments[k];
    double unused = 0, *const setting = argument.setting < 0 ? &unused : call.settings + argument.setting;
    switch (argument.kind) {
      case NeuronArgument::input: call.x = stack.take<Tensor>(); break;
      case NeuronArgument::state: call.states.push_back({argument.name, {stack.take<Optional>()}}); break;
      case NeuronArgument::parameter: {
        const double number = stack.take<double>();
        call.parameters.push_back({argument.name, {number, stack.take<Optional>()}});
        break;
      }
      case NeuronArgument::surrogate:
        call.surrogate = stack.take<int64_t>();
        call.alpha = stack.take<double>();
        break;
      case NeuronArgument::flag: *setting = stack.take<bool>(); break;
      case NeuronArgument::integer: *setting = static_cast<double>(stack.take<int64_t>()); break;
      case NeuronArgument::number: *setting = stack.take<double>(); break;
      case NeuronArgument::hard_reset: call.hard_reset = stack.take<bool>(); break;
      case NeuronArgument::fires: call.fires = stack.take<bool>(); break;
      case NeuronArgument::detach_reset: call.detach_reset = stack.take<bool>(); break;
      case NeuronArgument::return_state: call.return_state = stack.take<bool>(); break;
      case NeuronArgument::return_v_seq: call.return_v_seq = stack.take<bool>(); break;
    }
  }
  return call;
}

NeuronGradients take_gradients(Stack& stack, const NeuronCall& call, bool x_repeats) {
  NeuronGradients gradients{stack.take<Tensor>(), stack.take<int64_t>(), stack.take<bool>(), {}, x_repeats};
  for (size_t k = 0; k < call.states.size() + 2; k++) gradients.grads.push_back(stack.take<Optional>());
  return gradients;
}

Connections take_connections(Stack& stack) {
  Connections c{};
  c.weight = stack.take<Tensor>();
  for (Optional* tensor :
       {&c.past, &c.delay, &c.first, &c.targets, &c.steps, &c.noise_table, &c.noise_weight, &c.noise_key, &c.part})
    *tensor = stack.take<Optional>();
  c.plasticity = stack.take<Tensors>();
  c.record_events = stack.take<bool>();
  return c;
}

// Operators: a separate function for each, since PyTorch does not pass the name of the operator.

using Operator = void (*)(StableIValue*, uint64_t, uint64_t);

template <class Device, size_t K>
void forward(StableIValue* values, uint64_t, uint64_t) {
  Stack stack(values);
  const NeuronCall call = take_call(stack, kNeurons[K], kNeurons[K].stem);
  stack.give(neuron_forward<Device>(call, stack.take<int64_t>(), Kernels<Device>::get(K).forward));
}

template <class Device, size_t K>
void backward(StableIValue* values, uint64_t, uint64_t) {
  Stack stack(values);
  const NeuronCall call = take_call(stack, kNeurons[K], kNeurons[K].stem);
  const bool x_repeats = stack.take<bool>();
  stack.give(neuron_backward<Device>(call, take_gradients(stack, call, x_repeats), Kernels<Device>::get(K).backward));
}

template <class Device, size_t K>
void recurrent_forward(StableIValue* values, uint64_t, uint64_t) {
  Stack stack(values);
  const NeuronCall call = take_call(stack, kNeurons[K], kNeurons[K].recurrent);
  const Connections connections = take_connections(stack);
  stack.give(
      recurrent_forward<Device>(call, connections, stack.take<int64_t>(), Kernels<Device>::get(K).recurrent_forward));
}

template <class Device, size_t K>
void recurrent_backward(StableIValue* values, uint64_t, uint64_t) {
  Stack stack(values);
  const NeuronCall call = take_call(stack, kNeurons[K], kNeurons[K].recurrent);
  const Connections connections = take_connections(stack);
  const Tensor spikes = stack.take<Tensor>();
  stack.give(recurrent_backward<Device>(call, connections, spikes, take_gradients(stack, call, false),
                                        Kernels<Device>::get(K).recurrent_backward));
}

// ---- registration

// Arguments after those of a neuron: of both passes, and of the backward pass (tensors saved besides checkpoints). Also
// gradients after those of the neuron.
struct MoreArguments {
  std::string arguments, saved, grads;
};

template <class Library>
void define(Library& m, const PackageNeuron& neuron, const std::string& op, const MoreArguments& more) {
  std::string arguments, states_out, grad_states, grads_in;
  const auto add = [&](const char* type, const std::string& name) { arguments += type + (" " + name) + ", "; };
  for (size_t k = 0; k < neuron.count; k++) {
    const NeuronArgument& argument = neuron.arguments[k];
    const std::string name = argument.name;
    switch (argument.kind) {
      case NeuronArgument::input: add("Tensor", name); break;
      case NeuronArgument::state:
        add("Tensor?", name);
        states_out += ", Tensor " + name + "_out";
        grad_states += ", Tensor? grad_" + name;
        grads_in += ", Tensor grad_" + name + "_in";
        break;
      case NeuronArgument::parameter:
        add("float", name), add("Tensor?", name + "_tensor");
        grads_in += ", Tensor grad_" + name;
        break;
      case NeuronArgument::surrogate: add("int", name), add("float", "alpha"); break;
      case NeuronArgument::integer: add("int", name); break;
      case NeuronArgument::number: add("float", name); break;
      default: add("bool", name);
    }
  }
  m.def((op + "_forward(" + arguments + more.arguments + "int checkpoint_every) -> (Tensor spikes" + states_out +
         ", Tensor v_seq, Tensor checkpoints)")
            .c_str());
  m.def((op + "_backward(" + arguments + more.arguments + more.saved +
         "Tensor checkpoints, int checkpoint_every, bool state_needed, Tensor? grad_spikes" + grad_states +
         ", Tensor? grad_v_seq) -> (Tensor grad_x" + grads_in + more.grads + ")")
            .c_str());
}

template <class Library>
void define_all(Library& m) {
  for (const PackageNeuron& neuron : kNeurons) {
    define(m, neuron, neuron.stem, {"", "bool x_repeats, ", ""});
    define(m, neuron, neuron.recurrent,
           {"Tensor weight, Tensor? past, Tensor? delay, "
            "Tensor? first, Tensor? targets, Tensor? steps, "
            "Tensor? noise_table, Tensor? noise_weight, Tensor? noise_key, Tensor? part, "
            "Tensor[] plasticity, bool record_events, ",
            "Tensor spikes, ", ", Tensor grad_weight, Tensor grad_past, Tensor grad_delay"});
  }
}

template <class Library>
void implement(Library& m, const std::string& op, Operator forward, Operator backward) {
  m.impl((op + "_forward").c_str(), forward);
  m.impl((op + "_backward").c_str(), backward);
}

template <class Device, class Library, size_t... K>
void implement_all(Library& m, std::index_sequence<K...>) {
  (implement(m, kNeurons[K].stem, &forward<Device, K>, &backward<Device, K>), ...);
  (implement(m, kNeurons[K].recurrent, &recurrent_forward<Device, K>, &recurrent_backward<Device, K>), ...);
}

SNNFAST_REGISTER(define_all(m), implement_all<Device>(m, std::make_index_sequence<std::size(kNeurons)>()))

}  // namespace
}  // namespace snnfast
