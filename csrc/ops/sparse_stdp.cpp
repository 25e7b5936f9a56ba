#include "core/sparse_stdp.h"

#include "cpu/dispatch.h"
#include "ops/recurrent.h"
#include "ops/scratch.h"
#include "ops/stdp.h"

SNNFAST_CPU_KERNEL(stdp_traces, (const Stdp&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(sparse_stdp_weights, (const SparseStdp&, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(sparse_stdp_normalize, (const SparseStdp&, int64_t begin, int64_t end))

#define SNNFAST_SPARSE_STDP_ARGUMENTS(FIELD) \
  FIELD(Changed, w)                          \
  FIELD(Tensor, pre)                         \
  FIELD(Tensor, post)                        \
  FIELD(Tensor, first)                       \
  FIELD(Tensor, targets)                     \
  FIELD(Tensor, incoming_first)              \
  FIELD(Tensor, incoming)                    \
  FIELD(Tensor, sources)                     \
  FIELD(StdpStateArguments, state)           \
  FIELD(Optional, reward)                    \
  FIELD(PlasticityArguments, rule)           \
  FIELD(double, decay_eligibility)           \
  FIELD(double, scale)                       \
  FIELD(bool, each_step)                     \
  FIELD(std::optional<double>, norm)         \
  FIELD(int64_t, begin)                      \
  FIELD(int64_t, end)

namespace snnfast {

int launch_sparse_stdp(const SparseStdp&, void* stream);

namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_SPARSE_STDP_ARGUMENTS)

constexpr const char* kOp = "sparse_stdp_";
constexpr int64_t kStep = 1;

// Reads the synapses by postsynaptic neuron.
void read_incoming(const char* op, const Tensor& w, const Tensor& first, const Tensor& incoming, const Tensor& sources,
                   SparseStdp& a) {
  const auto check = [&](const char* name, const Tensor& t, ScalarType type, int64_t size) {
    check_tensor(op, name, t, type, {size}, "w", w);
    check_contiguous(op, name, t);
  };
  check("incoming_first", first, ScalarType::Long, a.inputs * a.N_post + 1);
  check("incoming", incoming, ScalarType::Int, w.numel());
  check("sources", sources, ScalarType::Int, w.numel());
  a.incoming_first = first.const_data_ptr<int64_t>();
  a.incoming = incoming.const_data_ptr<int32_t>();
  a.sources = sources.const_data_ptr<int32_t>();
}

// Reads the range of presynaptic neurons whose synapses learn.
template <class Number>
void read_range(const char* op, Number begin, Number end, SparseStdp& a) {
  SNNFAST_CHECK(0 <= begin && begin <= end && end <= static_cast<Number>(a.N_pre), op,
                ": begin and end must be a range of the ", a.N_pre, " presynaptic neurons, got ", begin, " and ", end);
  a.begin = static_cast<int64_t>(begin), a.end = static_cast<int64_t>(end);
}

// They must be those of the rows. On CUDA the kernels check every index that they use.
void check_incoming(const char* op, int64_t count, const SparseStdp& a) {
  const int64_t targets = a.inputs * a.N_post;
  bool fits = a.incoming_first[0] == 0 && a.incoming_first[targets] == count;
  for (int64_t i = 0; i < targets; i++) fits = fits && a.incoming_first[i] <= a.incoming_first[i + 1];
  // A synapse of another row would be changed by two threads.
  for (int64_t k = 0; fits && k < count; k++) {
    const int64_t q = a.incoming[k], j = a.sources[k];
    fits = j >= 0 && j < a.N_pre && q >= a.synapses.first[j] && q < a.synapses.first[j + 1];
  }
  SNNFAST_CHECK(fits, op, ": incoming must be the synapses of first and targets by postsynaptic neuron");
}

template <class Device>
void sparse_stdp(const Arguments& arguments) {
  const Tensor &w = arguments.w.tensor, &pre = arguments.pre, &post = arguments.post;
  check_float32_or_float64(kOp, "w", w);
  const int64_t count = arguments.targets.numel();
  check_shape(kOp, "w", w, {count});
  check_contiguous(kOp, "w", w);
  SNNFAST_CHECK(count < (int64_t{1} << 31), kOp, ": w must have fewer than 2^31 weights, got ", count);
  SNNFAST_CHECK(post.dim() == 3, kOp, ": post must have shape [T, B, N_post], got ", shape_of(post));
  SNNFAST_CHECK(pre.dim() == 3, kOp, ": pre must have shape [T, B, N_pre], got ", shape_of(pre));
  const Device device(w);
  SparseStdp a{};
  a.N_pre = pre.size(2), a.N_post = post.size(2), a.inputs = 1;
  read_range(kOp, arguments.begin, arguments.end, a);
  a.synapses = synapses_of(kOp, w, arguments.first, arguments.targets, &kStep, 1, a.N_pre);
  read_spikes(kOp, arguments, w, Device::kCuda ? 1 : w.scalar_type() == ScalarType::Double ? 8 : 16, a);
  read_reward(kOp, arguments, w, {count}, a);
  read_incoming(kOp, w, arguments.incoming_first, arguments.incoming, arguments.sources, a);
  if constexpr (!Device::kCuda) {
    check_synapses(kOp, a.synapses, a.N_pre, a.N_post);
    check_incoming(kOp, count, a);
  }
  if (a.N_post == 0 && a.N_pre == 0) return;
  const int64_t sums = std::max<int64_t>(count, 1);
  if constexpr (Device::kCuda) {
    each_chunk(device, w, a.each_step ? 0 : sums, a,
               [&] { device.launch(kOp, [&](void* stream) { return launch_sparse_stdp(a, stream); }); });
  } else {
    const size_t flags = static_cast<size_t>(std::max(a.N_pre, a.N_post) + 8);
    each_chunk(device, w, sums, a, [&] {
      in_parallel(2 * a.B, a.steps * a.N_pre,
                  [&](int64_t begin, int64_t end) { cpu::stdp_traces()(a, begin, end, thread_scratch(flags)); });
      in_parallel(a.end - a.begin, a.steps * a.B * (count / std::max<int64_t>(a.N_pre, 1) + 1) / 16 + 1,
                  [&](int64_t begin, int64_t end) { cpu::sparse_stdp_weights()(a, a.begin + begin, a.begin + end); });
    });
    if (a.norm > 0)
      in_parallel(a.N_post, count / std::max<int64_t>(a.N_post, 1) + 1,
                  [&](int64_t begin, int64_t end) { cpu::sparse_stdp_normalize()(a, begin, end); });
  }
}

SNNFAST_OPERATOR("sparse_stdp_", sparse_stdp, "()")

#ifndef SNNFAST_CUDA_EMULATION
// Learns from one step after the other, as sparse_stdp of a step.
class OnlineStdp {
 public:
  OnlineStdp(const char* op, const Cpu& device, const Connections& connections, int64_t samples, const Recurrence& r)
      : memory_(connections.weight) {
    const Tensor& w = connections.weight;
    const Tensors& tensors = connections.plasticity;
    SNNFAST_CHECK(tensors.size() == 8 || tensors.size() == 9, op, ": plasticity must be 8 or 9 tensors, got ",
                  tensors.size());
    SNNFAST_CHECK(!connections.part && !r.synapses.one_a_row && r.synapses.delays == 1 && samples <= kSparseGroup, op,
                  ": plasticity is without part, and needs a weight for each synapse, one delay and at most ",
                  kSparseGroup, " samples, got ", r.synapses.delays, " delays and ", samples, " samples");
    check_contiguous(op, "weight", w);
    const Tensor& numbers = tensors.back();
    check_tensor(op, "numbers of plasticity", numbers, ScalarType::Double, {kNumbers}, "w", w);
    check_contiguous(op, "numbers of plasticity", numbers);
    const double* number = numbers.const_data_ptr<double>();
    SNNFAST_CHECK(number[0] >= 0 && number[0] < static_cast<double>(PlasticityKind::count), op,
                  ": kind of rule must be a number from 0 to ", static_cast<int64_t>(PlasticityKind::count) - 1,
                  ", got ", number[0]);
    a_.rule.kind = static_cast<PlasticityKind>(number[0]), a_.rule.all = number[1] != 0;
    read_rule(a_.rule, number += 2);
    a_.decay_eligibility = *number++, a_.scale = *number++, a_.each_step = true,
    a_.is_double = w.scalar_type() == ScalarType::Double;
    a_.B = samples, a_.N_pre = a_.N_post = r.H, a_.inputs = r.inputs, a_.w = w.mutable_data_ptr();
    const int64_t rows = a_.is_double ? 8 : 16;
    a_.padded_post = (a_.N_post + rows - 1) / rows * rows;
    read_range(op, number[0], number[1], a_);
    a_.synapses = r.synapses;
    read_incoming(op, w, tensors[0], tensors[1], tensors[2], a_);
    check_incoming(op, w.numel(), a_);
    a_.trace_pre = stdp_state(op, "trace_pre", tensors[3], w, {samples, a_.N_pre});
    a_.trace_pre2 = stdp_state(op, "trace_pre2", tensors[4], w, {samples, a_.N_pre});
    a_.trace_post = stdp_state(op, "trace_post", tensors[5], w, {samples, a_.N_post});
    a_.trace_post2 = stdp_state(op, "trace_post2", tensors[6], w, {samples, a_.N_post});
    a_.modulated = tensors.size() == 9;
    if (a_.modulated) a_.eligibility = stdp_state(op, "eligibility", tensors[7], w, {samples, w.numel()});
    a_.t0 = 1, a_.steps = 1;  // not the first step of a call, so `lost` is read, which is 0 behind every step
    steps_ = r.synapses.steps[0] + 1;
    memory_ = device.allocate(w, {lay_out_all(Arena(nullptr)) + 64}, ScalarType::Byte);
    torch::stable::zero_(memory_);
    lay_out_all(Arena(aligned(static_cast<char*>(memory_.mutable_data_ptr()))));
  }

  void learn(int64_t t, int64_t count, const int32_t* neurons, const uint16_t* samples) {
    uint8_t *const sent = of_step(t), *const arrived = of_step(t - steps_ + 1);
    std::fill(sent, sent + a_.B * a_.N_post, uint8_t{0});
    for (int64_t e = 0; e < count; e++)
      for (int64_t b = 0; b < a_.B; b++) sent[b * a_.N_post + neurons[e]] = samples[e] >> b & 1;
    if (t < 0) return;
    a_.pre = {arrived, 0, a_.N_pre, 1, 1, false};
    a_.post = {sent, 0, a_.N_post, 1, 1, false};
    cpu::stdp_traces()(a_, 0, 2 * a_.B, flags_);
    cpu::sparse_stdp_weights()(a_, a_.begin, a_.end);
  }

 private:
  static constexpr int64_t kNumbers = 19;
  SparseStdp a_{};
  int64_t steps_;  // the ring has the spikes of as many steps, [steps, samples, H]
  uint8_t *ring_, *flags_;
  Tensor memory_;

  int64_t lay_out_all(Arena arena) {
    lay_out<Cpu>(arena, a_, 1);
    const int64_t bytes = (a_.is_double ? 8 : 4) * a_.synapses.size;
    a_.lost = arena.take<char>(bytes), a_.grown = a_.lost;
    a_.reward = arena.take<double>(2 * a_.B);
    a_.x_pre = a_.trace_pre;  // of one step: where the traces are
    if (a_.padded_post == a_.N_post) a_.x_post = a_.trace_post;
    ring_ = arena.take<uint8_t>(steps_ * a_.B * a_.N_post);
    flags_ = arena.take<uint8_t>(std::max(a_.N_pre, a_.N_post) + 8);
    return arena.used();
  }
  uint8_t* of_step(int64_t t) { return ring_ + ((t % steps_ + steps_) % steps_) * a_.B * a_.N_post; }
};
#endif

}  // namespace

#ifndef SNNFAST_CUDA_EMULATION
std::shared_ptr<void> sparse_plasticity(const Cpu& device, const char* op, const Connections& connections,
                                        int64_t samples, Recurrence& r) {
  const auto learner = std::make_shared<OnlineStdp>(op, device, connections, samples, r);
  r.learning = {learner.get(), [](void* of, int64_t t, int64_t count, const int32_t* neurons, const uint16_t* samples) {
                  static_cast<OnlineStdp*>(of)->learn(t, count, neurons, samples);
                }};
  return learner;
}
#endif
std::shared_ptr<void> sparse_plasticity(const Cuda&, const char* op, const Connections&, int64_t, Recurrence&) {
  SNNFAST_CHECK(false, op, ": plasticity must be empty on CUDA; change the weights after the call, by sparse_stdp_");
  return nullptr;
}
}  // namespace snnfast
