// Operators of recurrent neurons: those of ops/neuron.h with weights, spikes before the first step and delays.
#pragma once
#include "ops/neuron.h"

namespace snnfast {

// Shared part of the recurrent layers (recurrent.cpp): packs the weights into the rows that kernels read; computes the
// partial sums of their gradient, which the CPU's kernels do themselves; and adds up `count` of these.
void recurrent_pack(const Cpu&, const Recurrence& r, bool is_double, void* to_post, void* to_pre);
void recurrent_pack(const Cuda&, const Recurrence& r, bool is_double, void* to_post, void* to_pre);
void recurrent_weight(const Cuda&, const RecurrentWeightGradient& a);
void recurrent_sum(const Cpu&, void* parts, int64_t count, int64_t H, bool is_double, void* grad_weight);
void recurrent_sum(const Cuda&, void* parts, int64_t count, int64_t H, bool is_double, void* grad_weight);

// Arguments of `recurrence`, as kernels read them; owns the rows of weights.
template <class Device>
class RecurrentTensors {
 public:
  Recurrence recurrence{};
  Tensor to_post, to_pre, room, columns;

  RecurrentTensors(const Device& device, const Tensor& x, NeuronTensors& tensors, const Tensor& weight,
                   const Optional& past, const Optional& delay)
      : to_post(tensors.nothing()), to_pre(tensors.nothing()), room(tensors.nothing()), columns(tensors.nothing()) {
    const char* op = tensors.op();
    SNNFAST_CHECK(x.dim() >= 2, op, ": x must have shape [T, ..., H], got ", shape_of(x));
    Recurrence& r = recurrence;
    r.H = x.size(x.dim() - 1);
    r.weight = tensors.of_shape(weight, "weight", {r.H, r.H});
    r.delay = delay ? tensors.of_shape(*delay, "delay", {r.H}) : nullptr;
    r.past = tensors.past(past, &r.K);
    r.ring = 2;
    if constexpr (!Device::kCuda) r.ring = ring(x.size(0), tensors.state_type() == ScalarType::Double);
    const std::vector<int64_t> rows = {r.H, padded(r.H)};
    to_post = device.allocate(x, rows, tensors.state_type());
    to_pre = device.allocate(x, rows, tensors.state_type());
    r.to_post = to_post.mutable_data_ptr();
    r.to_pre = to_pre.mutable_data_ptr();
    if (Device::kCuda && r.H > kRecurrentThreads) {
      room = device.allocate(x, {tensors.count() / r.H, recurrent_room(r.H)}, tensors.state_type());
      r.room = room.mutable_data_ptr();
    }
    if (r.H > 0)
      recurrent_pack(device, r, tensors.state_type() == ScalarType::Double, to_post.mutable_data_ptr(),
                     to_pre.mutable_data_ptr());
  }

  // Memory for the states of a forward pass on CUDA; null: they are in registers.
  void* states(const Device& device, const Tensor& x, const NeuronTensors& tensors, int64_t rows) {
    if (!Device::kCuda || recurrence.H <= kRecurrentThreads) return nullptr;
    columns = device.allocate(x, {rows, tensors.count()}, tensors.state_type());
    return columns.mutable_data_ptr();
  }

 private:
  // Number of steps that spikes in flight are stored for, a power of 2.
  int64_t ring(int64_t T, bool is_double) const {
    int64_t longest = 0, size = 2;
    for (int64_t j = 0; j < (recurrence.delay ? recurrence.H : 0); j++) {
      const int64_t most = T + recurrence.K;
      const int64_t steps = is_double ? lag_of(static_cast<const double*>(recurrence.delay)[j], most).steps
                                      : lag_of(static_cast<const float*>(recurrence.delay)[j], most).steps;
      longest = std::max(steps, longest);
    }
    while (size < longest + 3) size *= 2;
    return recurrence.delay ? size : 2;
  }
};

// Gradients of weight, past and delay; the last two are empty without past or delay. Owns the memory that the kernels
// work in on CUDA.
template <class Device>
class RecurrentGradients {
 public:
  Tensor weight, past, delay;

  // columns: result of recurrent_columns.
  RecurrentGradients(const Device& device, const Tensor& x, NeuronTensors& tensors, const Recurrence& r,
                     const Optional& past_in, bool delayed, const Tensor& spikes, int64_t columns,
                     RecurrentBackward<AnyNeuron>& a)
      : weight(device.allocate(x, {r.H, r.H}, tensors.state_type())),
        past(past_in ? device.allocate(x, sizes_of(*past_in), x.scalar_type()) : tensors.nothing()),
        delay(delayed ? device.allocate(x, tensors.shape(), tensors.state_type()) : tensors.nothing()),
        H_(r.H),
        parts_(r.H > 0 ? RecurrentParts(a.N / r.H).parts : 0),
        is_double_(tensors.state_type() == ScalarType::Double),
        partial_(device.allocate(x, {parts_, r.H, padded(r.H)}, tensors.state_type())) {
    a.recurrence = r;
    a.spikes = tensors.optional_rows(spikes, "spikes", x.scalar_type());
    a.grad_past = past_in ? past.mutable_data_ptr() : nullptr;
    a.grad_delay = delayed ? delay.mutable_data_ptr() : nullptr;
    a.grad_weight = partial_.mutable_data_ptr();
    if constexpr (Device::kCuda) {
      const auto take = [&](int64_t rows) {
        scratch_.push_back(device.allocate(x, {rows, a.N}, tensors.state_type()));
        return scratch_.back().mutable_data_ptr();
      };
      a.grad_current = take(a.T);
      a.returned = delayed ? take(a.T) : nullptr;
      a.columns = take(columns);
    }
  }

  // After the kernel: adds up the gradient of the weights.
  void sum(const Device& device, const RecurrentBackward<AnyNeuron>& a) {
    if (H_ == 0) return;
    if constexpr (Device::kCuda)
      if (a.N > 0) recurrent_weight(device, {a.T, a.N, a.recurrence, a.spikes, a.grad_current, a.grad_weight});
    recurrent_sum(device, partial_.mutable_data_ptr(), parts_, H_, is_double_, weight.mutable_data_ptr());
  }

 private:
  int64_t H_, parts_;
  bool is_double_;
  Tensor partial_;
  std::vector<Tensor> scratch_;
};

// Forward and backward pass; kernel takes RecurrentForward or RecurrentBackward, and on the CPU runs groups of samples
// or parts of groups, with scratch.
struct Connections {
  Tensor weight;
  Optional past, delay;
};

// Calls kernel(begin, end, scratch) over `units` groups or parts of groups.
template <class Kernel>
void recurrent_units(const Cpu& device, const NeuronSizes& sizes, const Recurrence& r, int64_t T, int64_t steps,
                     bool backward, int64_t units, const Kernel& kernel) {
  constexpr int64_t kOne = 64;  // unit that Cpu::parallel does not split
  const size_t bytes = static_cast<size_t>(
      RecurrentMemory<double>(nullptr, sizes.piece_rows, sizes.tape_rows, r, steps, backward).bytes);
  device.parallel(units * kOne, T * r.H,
                  [&](int64_t begin, int64_t end) { kernel(begin / kOne, end / kOne, thread_scratch(bytes)); });
}

template <class Device, class Kernel>
Tensors recurrent_forward(const NeuronCall& call, const Connections& connections, int64_t checkpoint_every,
                          const Kernel& kernel) {
  NeuronTensors tensors(call.op, call.x);
  SNNFAST_CHECK(call.fires, call.op, ": fires must be true, got false");
  const Device device(call.x);
  RecurrentForward<AnyNeuron> a{};
  Tensors outputs = forward_tensors(call, true, checkpoint_every, tensors, device, a);
  RecurrentTensors<Device> recurrent(device, call.x, tensors, connections.weight, connections.past, connections.delay);
  const Recurrence& r = a.recurrence = recurrent.recurrence;
  a.columns = recurrent.states(device, call.x, tensors, call.sizes.states);
  if (a.N == 0) return outputs;
  if constexpr (Device::kCuda)
    device.launch(call.op, [&](void* stream) { return kernel(a, stream); });
  else
    recurrent_units(device, call.sizes, r, a.T, 1, false, RecurrentParts(a.N / r.H).groups,
                    [&](int64_t begin, int64_t end, void* scratch) { kernel(a, begin, end, scratch); });
  return outputs;
}

// Gradients as in backward_tensors, then of weight, past and delay; the last two are empty without past or delay.
template <class Device, class Kernel>
Tensors recurrent_backward(const NeuronCall& call, const Connections& connections, const Tensor& spikes,
                           const NeuronGradients& gradients, const Kernel& kernel) {
  NeuronTensors tensors(call.op, call.x);
  SNNFAST_CHECK(call.fires, call.op, ": fires must be true, got false");
  const Device device(call.x);
  RecurrentBackward<AnyNeuron> a{};
  Tensors outputs = backward_tensors(call, gradients, tensors, device, a);
  const RecurrentTensors<Device> recurrent(device, call.x, tensors, connections.weight, connections.past,
                                           connections.delay);
  const NeuronSizes& sizes = call.sizes;
  const int64_t steps = std::min(a.T, gradients.checkpoint_every);
  RecurrentGradients<Device> more(device, call.x, tensors, recurrent.recurrence, connections.past,
                                  connections.delay.has_value(), spikes,
                                  recurrent_columns(sizes.states, sizes.params, sizes.tape_rows, steps), a);
  const Recurrence& r = a.recurrence;
  if (a.N > 0) {
    if constexpr (Device::kCuda)
      device.launch(call.op, [&](void* stream) { return kernel(a, stream); });
    else
      recurrent_units(device, sizes, r, a.T, steps, true, RecurrentParts(a.N / r.H).parts,
                      [&](int64_t begin, int64_t end, void* scratch) { kernel(a, begin, end, scratch); });
  }
  more.sum(device, a);
  outputs.insert(outputs.end(), {more.weight, more.past, more.delay});
  return outputs;
}

}  // namespace snnfast
