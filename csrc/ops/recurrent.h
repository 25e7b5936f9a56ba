// Operators of recurrent neurons: those of ops/neuron.h with weights, spikes before the first step and delays.
#pragma once
#include <memory>

#include "ops/exchange.h"
#include "ops/interrupt.h"
#include "ops/neuron.h"
#include "ops/spike_event_lists.h"

namespace snnfast {

// Shared part of the recurrent layers (recurrent.cpp): packs the weights into the rows that kernels read; computes the
// partial sums of their gradient, which the CPU's kernels do themselves; and adds up `count` of these.
void recurrent_pack(const Cpu&, const Recurrence& r, bool is_double, void* to_post, void* to_pre);
void recurrent_pack(const Cuda&, const Recurrence& r, bool is_double, void* to_post, void* to_pre);
void recurrent_weight(const Cuda&, const RecurrentWeightGradient& a);
void recurrent_sum(const Cpu&, void* parts, int64_t count, int64_t H, bool is_double, void* grad_weight);
void recurrent_sum(const Cuda&, void* parts, int64_t count, int64_t H, bool is_double, void* grad_weight);
// Sparse connections: the rows of H neurons; the number of weights remains to be checked. On the CPU check_synapses
// reads the rows; on CUDA the kernels check every index that they use.
Synapses synapses_of(const char* op, const Tensor& x, const Tensor& first, const Tensor& targets, const int64_t* steps,
                     int64_t delays, int64_t H);
void check_synapses(const char* op, const Synapses& s, int64_t H, int64_t outputs);
// Adds up `count` gradients of `size` weights.
void recurrent_sum_sparse(void* parts, int64_t count, int64_t size, bool is_double);

inline void on_threads(int64_t n, int64_t grain, const void* context,
                       void (*body)(const void* context, int64_t begin, int64_t end)) {
  parallel_for(n, grain, [&](int64_t begin, int64_t end) { body(context, begin, end); });
}

// Connections of recurrent neurons. With `first`, `targets` and `steps`, the fields of Synapses, they are sparse, and
// may have noise: the table and the weights of Noise, and its seed and step. part: senders, first, window and key of
// Part, and the number of steps before the first. plasticity: see sparse_plasticity. record_events: the spikes are
// events.
struct Connections {
  Tensor weight;
  Optional past, delay, first, targets, steps, noise_table, noise_weight, noise_key, part;
  Tensors plasticity;
  bool record_events;
};

// Plasticity within a call (sparse_stdp.cpp). plasticity: empty, or of sparse_stdp_ incoming_first, incoming, sources,
// trace_pre, trace_pre2, trace_post, trace_post2 and, if the rule is reward-modulated, eligibility, then as numbers
// rule, decay_eligibility, scale, begin and end. Weights, traces and eligibility are changed in place; the reward is 0.
// Returns the learner, which r refers to.
std::shared_ptr<void> sparse_plasticity(const Cpu&, const char* op, const Connections& connections, int64_t samples,
                                        Recurrence& r);
std::shared_ptr<void> sparse_plasticity(const Cuda&, const char* op, const Connections& connections, int64_t samples,
                                        Recurrence& r);

// Arguments of `recurrence`, as kernels read them; owns the rows of weights.
template <class Device>
class RecurrentTensors {
 public:
  Recurrence recurrence{};
  Tensor to_post, to_pre, room, columns;

  RecurrentTensors(const Device& device, const NeuronCall& call, NeuronTensors& tensors, const Connections& connections)
      : to_post(tensors.nothing()), to_pre(tensors.nothing()), room(tensors.nothing()), columns(tensors.nothing()) {
    const char* op = tensors.op();
    const Tensor& x = call.x;
    SNNFAST_CHECK(x.dim() >= 2, op, ": x must have shape [T, ..., H], got ", shape_of(x));
    Recurrence& r = recurrence;
    const Tensor& weight = connections.weight;
    const Optional& delay = connections.delay;
    r.H = x.size(x.dim() - 1);
    r.part.senders = r.H;
    r.past = tensors.past(connections.past, &r.K);
    r.ring = 2;
    if constexpr (!Device::kCuda) {
      r.threads = static_cast<int64_t>(torch::stable::get_num_threads());
      r.parallel_for = &on_threads;
      r.interrupt = call_.interrupt();
    }
    r.inputs = 1 + static_cast<int64_t>(call.more_inputs.size());
    if (connections.first) {
      sparse(device, x, tensors, connections);
      noise(x, tensors, connections);
      if (!connections.plasticity.empty() && r.H > 0)
        learner_ = sparse_plasticity(device, op, connections, tensors.count() / r.H, r);
      return;
    }
    SNNFAST_CHECK(r.inputs == 1 && !connections.noise_table && !connections.part && connections.plasticity.empty() &&
                      !connections.record_events,
                  op,
                  ": several inputs, noise, part, plasticity and record_events need sparse connections, got a matrix "
                  "of weights");
    r.weight = tensors.of_shape(weight, "weight", {r.H, r.H});
    r.delay = delay ? tensors.of_shape(*delay, "delay", {r.H}) : nullptr;
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
    if (!Device::kCuda || (recurrence.H <= kRecurrentThreads && !recurrence.synapses.first)) return nullptr;
    columns = device.allocate(x, {rows, tensors.count()}, tensors.state_type());
    return columns.mutable_data_ptr();
  }

 private:
  std::vector<int64_t> steps_;
  InterruptibleCall call_;
  SpikeEventLists exchanged_{1};
  std::shared_ptr<void> learner_;

  void sparse(const Device& device, const Tensor& x, NeuronTensors& tensors, const Connections& connections) {
    const char* op = tensors.op();
    SNNFAST_CHECK(!Device::kCuda || !connections.record_events, op,
                  ": record_events must be false on CUDA, where kernels write spikes, got true; make events of them");
    SNNFAST_CHECK(connections.targets && connections.steps && !connections.delay, op,
                  ": sparse connections need first, targets and steps, and no delay");
    const Tensor &first = *connections.first, &targets = *connections.targets, &steps = *connections.steps;
    Recurrence& r = recurrence;
    Synapses& s = r.synapses;
    check_dtype(op, "steps", steps, ScalarType::Long);
    check_shape(op, "steps", steps, {steps.numel()});
    check_device(op, "steps", steps, "x", x);
    check_contiguous(op, "steps", steps);
    SNNFAST_CHECK(!Device::kCuda || !connections.part, op, ": part must be None on CUDA, got one");
    if (connections.part) part(x, tensors, connections);
    const int64_t senders = r.part.senders;
    s = synapses_of(op, x, first, targets, steps.const_data_ptr<int64_t>(), steps.numel(), senders);
    const int64_t count = targets.numel();
    s.one_a_row = connections.weight.numel() != count;
    r.weight = tensors.of_shape(connections.weight, "weight", {s.one_a_row ? senders : count});
    if constexpr (Device::kCuda) {
      if (r.H > 0) room = device.allocate(x, {tensors.count() / r.H, r.inputs * r.H}, tensors.state_type());
      r.room = room.mutable_data_ptr();
    } else {
      check_synapses(op, s, senders, r.inputs * r.H);
      SNNFAST_CHECK(r.part.window <= s.steps[0], op, ": the window of part must be at most the shortest delay, ",
                    s.steps[0], ", got ", r.part.window);
      // Spikes with a longer delay never arrive, and memory grows with the longest.
      const int64_t never = x.size(0) + r.K + 1;
      for (int64_t k = 0; k < s.delays; k++) steps_.push_back(std::min(s.steps[k], never));
      s.steps = steps_.data();
    }
  }

  void part(const Tensor& x, NeuronTensors& tensors, const Connections& connections) {
    const char* op = tensors.op();
    const Tensor& part = *connections.part;
    check_dtype(op, "part", part, ScalarType::Long);
    check_shape(op, "part", part, {5});
    check_device(op, "part", part, "x", x);
    check_contiguous(op, "part", part);
    SNNFAST_CHECK(!connections.past, op, ": past must be None with part, which has the spikes before the first step");
    Recurrence& r = recurrence;
    const int64_t* numbers = part.const_data_ptr<int64_t>();
    r.part = {numbers[0], numbers[1], numbers[2], exchanged_.data(), numbers[3], spike_exchange(op)};
    r.K = numbers[4];
    SNNFAST_CHECK(r.part.first >= 0 && r.H <= r.part.senders && r.part.first <= r.part.senders - r.H &&
                      r.part.senders <= INT32_MAX && r.part.window >= 1 && r.K >= 0 && r.K <= INT32_MAX,
                  op, ": part must have neurons of the network and at least one step, got ", r.H, " from ",
                  r.part.first, " of ", r.part.senders, ", window ", r.part.window, ", ", r.K, " steps before");
  }

  void noise(const Tensor& x, NeuronTensors& tensors, const Connections& connections) {
    if (!connections.noise_table) return;
    const char* op = tensors.op();
    SNNFAST_CHECK(connections.noise_weight && connections.noise_key, op,
                  ": noise needs noise_table, noise_weight and noise_key");
    const Tensor &table = *connections.noise_table, &key = *connections.noise_key;
    SNNFAST_CHECK(table.dim() == 2 && table.size(0) >= 1 && table.size(1) >= 2, op,
                  ": noise_table must have shape [runs, 2 + thresholds], got ", shape_of(table));
    check_shape(op, "noise_key", key, {2});
    for (const auto& [name, t] : {std::pair{"noise_table", &table}, {"noise_key", &key}}) {
      check_dtype(op, name, *t, ScalarType::Long);
      check_device(op, name, *t, "x", x);
      check_contiguous(op, name, *t);
    }
    Recurrence& r = recurrence;
    Noise& noise = r.noise;
    noise.table = table.const_data_ptr<int64_t>(), noise.runs = table.size(0), noise.width = table.size(1);
    noise.weight = tensors.of_shape(*connections.noise_weight, "noise_weight", {r.inputs * r.part.senders});
    noise.key = key.const_data_ptr<int64_t>();
    if constexpr (!Device::kCuda) noise.seed = static_cast<uint64_t>(noise.key[0]), noise.step = noise.key[1];
  }

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
      : weight(device.allocate(x, weight_shape(r), tensors.state_type())),
        past(past_in ? device.allocate(x, sizes_of(*past_in), x.scalar_type()) : tensors.nothing()),
        delay(delayed ? device.allocate(x, tensors.shape(), tensors.state_type()) : tensors.nothing()),
        H_(r.H),
        parts_(r.H > 0 ? RecurrentParts(a.N / r.H, r.H, sparse(r)).parts : 0),
        is_double_(tensors.state_type() == ScalarType::Double),
        sparse_(sparse(r)),
        partial_(sparse_ && (Device::kCuda || parts_ == 1)
                     ? weight
                     : device.allocate(x, {parts_, recurrent_weights(r, r.H * padded(r.H))}, tensors.state_type())) {
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
      a.grad_current = take(a.T * r.inputs);
      a.returned = delayed ? take(a.T) : sparse_ ? take(1) : nullptr;
      a.columns = take(columns);
    }
  }

  // After the kernel: adds up the gradient of the weights.
  void sum(const Device& device, const RecurrentBackward<AnyNeuron>& a) {
    if (H_ == 0) return;
    if constexpr (Device::kCuda) {
      if (a.N > 0 || sparse_)
        recurrent_weight(device, {a.T, a.N, a.recurrence, a.spikes, a.grad_current, a.grad_weight});
      if (sparse_) return;
    } else if (sparse_) {
      return sum_sparse();
    }
    recurrent_sum(device, partial_.mutable_data_ptr(), parts_, H_, is_double_, weight.mutable_data_ptr());
  }

 private:
  static bool sparse(const Recurrence& r) { return r.synapses.first; }
  static std::vector<int64_t> weight_shape(const Recurrence& r) {
    return sparse(r) ? std::vector<int64_t>{recurrent_weights(r, 0)} : std::vector<int64_t>{r.H, r.H};
  }
  void sum_sparse() {
    if (parts_ == 1) return;
    if (parts_ == 0) {
      torch::stable::zero_(weight);
      return;
    }
    recurrent_sum_sparse(partial_.mutable_data_ptr(), parts_, weight.numel(), is_double_);
    weight = torch::stable::clone(torch::stable::select(partial_, 0, 0));
  }

  int64_t H_, parts_;
  bool is_double_, sparse_;
  Tensor partial_;
  std::vector<Tensor> scratch_;
};

// Calls kernel(begin, end, scratch) over groups of samples, or in the backward pass over parts of groups.
template <class Kernel>
void recurrent_units(const Cpu& device, const NeuronSizes& sizes, const Recurrence& r, int64_t T, int64_t N,
                     int64_t steps, bool backward, const Kernel& kernel) {
  constexpr int64_t kOne = 64;  // unit that Cpu::parallel does not split
  const int64_t rows = sizes.piece_rows, tape = sizes.tape_rows, samples = N / r.H;
  const size_t bytes = static_cast<size_t>(
      r.synapses.first ? SparseMemory<double>(nullptr, rows, tape, r, samples, steps, backward).bytes
                       : RecurrentMemory<double>(nullptr, rows, tape, r, samples, steps, backward).bytes);
  const RecurrentParts split(samples, r.H, r.synapses.first);
  if (r.part.spikes) return kernel(0, split.groups, thread_scratch(bytes));  // all parts exchange in the same order
  device.parallel((backward ? split.parts : split.groups) * kOne, T * r.H,
                  [&](int64_t begin, int64_t end) { kernel(begin / kOne, end / kOne, thread_scratch(bytes)); });
}

template <class Device, class Kernel>
Tensors recurrent_forward(const NeuronCall& call, const Connections& connections, int64_t checkpoint_every,
                          const Kernel& kernel) {
  NeuronTensors tensors(call.op, call.x);
  SNNFAST_CHECK(call.fires, call.op, ": fires must be true, got false");
  const Device device(call.x);
  RecurrentForward<AnyNeuron> a{};
  const bool listed = connections.record_events;
  Tensors outputs = forward_tensors(call, !listed, checkpoint_every, tensors, device, a);
  RecurrentTensors<Device> recurrent(device, call, tensors, connections);
  Recurrence& r = a.recurrence = recurrent.recurrence;
  a.columns = recurrent.states(device, call.x, tensors, call.sizes.states);
  SNNFAST_CHECK(!listed || a.T <= INT32_MAX, call.op, ": x must have less than 2**31 steps with record_events, got ",
                a.T);
  SpikeEventLists lists(listed && a.N > 0 ? RecurrentParts(a.N / r.H, r.H, true).groups + r.threads : 0);
  if (listed) r.events = lists.data();
  const auto finished = [&] {
    if (listed) outputs[0] = lists.merged(call.op, device, call.x);
    return outputs;
  };
  if (a.N == 0) return finished();
  if constexpr (Device::kCuda)
    device.launch(call.op, [&](void* stream) { return kernel(a, stream); });
  else
    recurrent_units(device, call.sizes, r, a.T, a.N, 1, false,
                    [&](int64_t begin, int64_t end, void* scratch) { kernel(a, begin, end, scratch); });
  SNNFAST_CHECK(!r.part.spikes || r.part.spikes->whole, call.op,
                ": spikes must be whole numbers of at least 0 to be exchanged, of neurons and steps of the network");
  return finished();
}

// Gradients as in backward_tensors, then of weight, past and delay; the last two are empty without past or delay.
template <class Device, class Kernel>
Tensors recurrent_backward(const NeuronCall& call, const Connections& connections, const Tensor& spikes,
                           const NeuronGradients& gradients, const Kernel& kernel) {
  NeuronTensors tensors(call.op, call.x);
  SNNFAST_CHECK(call.fires && !connections.part && connections.plasticity.empty(), call.op,
                ": fires must be true, and neither a part of a network nor plasticity has a gradient");
  const Device device(call.x);
  RecurrentBackward<AnyNeuron> a{};
  Tensors outputs = backward_tensors(call, gradients, tensors, device, a);
  const RecurrentTensors<Device> recurrent(device, call, tensors, connections);
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
      recurrent_units(device, sizes, r, a.T, a.N, steps, true,
                      [&](int64_t begin, int64_t end, void* scratch) { kernel(a, begin, end, scratch); });
  }
  more.sum(device, a);
  outputs.insert(outputs.end(), {more.weight, more.past, more.delay});
  return outputs;
}

}  // namespace snnfast
