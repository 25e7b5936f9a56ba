#include "core/spikeprop.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "cpu/dispatch.h"
#include "ops/device.h"
#include "ops/scratch.h"

SNNFAST_CPU_KERNEL(spikeprop_sizes, (const SpikePropEvents&, bool backward, SpikePropSizes*))
SNNFAST_CPU_KERNEL(spikeprop_sort, (const SpikePropForward&, char* memory, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(spikeprop_mark, (const SpikePropEvents&, bool backward, char* memory))
SNNFAST_CPU_KERNEL(spikeprop_pack, (const SpikePropEvents&, const void* w, bool backward, char* memory, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(spikeprop_fire, (const SpikePropForward&, char* memory, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(spikeprop_finish, (const SpikePropForward&, char* memory))
SNNFAST_CPU_KERNEL(spikeprop_intervals, (const SpikePropEvents&, char* memory, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(spikeprop_sum_weights, (const SpikePropBackward&, char* memory, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(spikeprop_sum_events, (const SpikePropBackward&, char* memory, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(spikeprop_sum_all, (const SpikePropBackward&, char* memory))

namespace snnfast {

int64_t spikeprop_workspace(const SpikePropEvents&, bool backward);
int launch_spikeprop_forward(const SpikePropForward&, void* workspace, void* stream);
int launch_spikeprop_backward(const SpikePropBackward&, void* workspace, void* stream);

namespace {

using OptionalTensor = std::optional<Tensor>;

// kernel(begin, end) over [0, n) by threads, with about `work` operations an item.
template <class Kernel>
void in_parallel(int64_t n, int64_t work, const Kernel& kernel) {
  torch::stable::parallel_for(0, n, std::max<int64_t>(32768 / std::max<int64_t>(work, 1), 1), kernel);
}

template <class Device>
void run_forward(const Device& device, const Tensor& like, const SpikePropForward& a) {
  if constexpr (Device::kCuda) {
    const Tensor workspace = device.allocate(like, {spikeprop_workspace(a.events, false)}, ScalarType::Byte);
    device.launch("spikeprop", [&](void* stream) { return launch_spikeprop_forward(a, workspace.mutable_data_ptr(), stream); });
  } else {
    const SpikePropEvents& events = a.events;
    SpikePropSizes sizes;
    cpu::spikeprop_sizes()(events, false, &sizes);
    const Tensor memory = device.allocate(like, {sizes.memory + 64}, ScalarType::Byte);
    char* m = static_cast<char*>(memory.mutable_data_ptr());
    m += (64 - reinterpret_cast<uintptr_t>(m) % 64) % 64;
    const size_t scratch = static_cast<size_t>(sizes.sort_scratch);
    in_parallel(events.B, 8 * events.N + events.grid_points,
                [&](int64_t begin, int64_t end) { cpu::spikeprop_sort()(a, m, begin, end, thread_scratch(scratch)); });
    cpu::spikeprop_mark()(events, false, m);
    in_parallel(sizes.blocks, 32 * events.N, [&](int64_t begin, int64_t end) { cpu::spikeprop_pack()(events, a.w, false, m, begin, end); });
    in_parallel(sizes.blocks * events.B, 4 * events.N + events.grid_points + 400, [&](int64_t begin, int64_t end) { cpu::spikeprop_fire()(a, m, begin, end); });
    cpu::spikeprop_finish()(a, m);
  }
}

template <class Device>
void run_backward(const Device& device, const Tensor& like, const SpikePropBackward& a) {
  if constexpr (Device::kCuda) {
    const Tensor workspace = device.allocate(like, {spikeprop_workspace(a.events, true)}, ScalarType::Byte);
    device.launch("spikeprop", [&](void* stream) { return launch_spikeprop_backward(a, workspace.mutable_data_ptr(), stream); });
  } else {
    const SpikePropEvents& events = a.events;
    SpikePropSizes sizes;
    cpu::spikeprop_sizes()(events, true, &sizes);
    const Tensor memory = device.allocate(like, {sizes.memory + 64}, ScalarType::Byte);
    char* m = static_cast<char*>(memory.mutable_data_ptr());
    m += (64 - reinterpret_cast<uintptr_t>(m) % 64) % 64;
    const size_t scratch = static_cast<size_t>(sizes.sum_scratch);
    in_parallel(events.B, 8 * events.N, [&](int64_t begin, int64_t end) { cpu::spikeprop_intervals()(events, m, begin, end); });
    if (a.grad_w)
      in_parallel(sizes.blocks * sizes.pieces, 4 * events.N * events.B / sizes.pieces,
                  [&](int64_t begin, int64_t end) { cpu::spikeprop_sum_weights()(a, m, begin, end, thread_scratch(scratch)); });
    if (a.grad_t_in || a.grad_delays || a.grad_tau) {
      cpu::spikeprop_mark()(events, true, m);
      in_parallel(sizes.blocks, 32 * events.N, [&](int64_t begin, int64_t end) { cpu::spikeprop_pack()(events, a.w, true, m, begin, end); });
      in_parallel(events.B, 8 * events.N * sizes.blocks,
                  [&](int64_t begin, int64_t end) { cpu::spikeprop_sum_events()(a, m, begin, end, thread_scratch(scratch)); });
    }
    cpu::spikeprop_sum_all()(a, m);
  }
}

// ---- checks

void check(const char* name, const Tensor& t, const Tensor& w, ScalarType type, const std::vector<int64_t>& shape) {
  const auto sizes = t.sizes();
  STD_TORCH_CHECK(std::vector<int64_t>(sizes.begin(), sizes.end()) == shape, "spikeprop: ", name, " has a wrong shape");
  STD_TORCH_CHECK(t.scalar_type() == type, "spikeprop: ", name, " has a wrong dtype");
  STD_TORCH_CHECK(t.is_cuda() == w.is_cuda() && t.get_device_index() == w.get_device_index(), "spikeprop: ", name, " must be on the device of w");
  STD_TORCH_CHECK(t.is_contiguous(), "spikeprop: ", name, " must be contiguous");
}

// numbers: tau, v_threshold, t_max, dt.
SpikePropEvents events_of(const Tensor& w, const Tensor& delays, const OptionalTensor& tau, const std::vector<double>& numbers, int64_t B, int64_t grid_points,
                          bool return_u_max) {
  const ScalarType type = w.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "spikeprop: w must be float32 or float64");
  STD_TORCH_CHECK(w.dim() == 3 && w.is_contiguous(), "spikeprop: w must have shape [O, I, K] and be contiguous");
  STD_TORCH_CHECK(numbers.size() == 4 && grid_points >= 0 && grid_points < (int64_t{1} << 31), "spikeprop: wrong number of numbers or points of the grid");
  STD_TORCH_CHECK(w.size(1) * w.size(2) < (int64_t{1} << 30), "spikeprop: more than 2^30 terminals a neuron");
  SpikePropEvents a{};
  a.B = B, a.O = w.size(0), a.I = w.size(1), a.K = w.size(2), a.N = a.I * a.K;
  check("delays", delays, w, type, delays.dim() == 2 ? std::vector<int64_t>{a.I, a.K} : std::vector<int64_t>{a.K});
  if (tau) check("tau", *tau, w, type, {});
  a.delays = delays.const_data_ptr();
  a.delay_stride = delays.dim() == 2 ? a.K : 0;
  a.tau_tensor = tau ? tau->const_data_ptr() : nullptr;
  a.tau = numbers[0], a.v_threshold = numbers[1], a.t_max = numbers[2], a.dt = numbers[3];
  a.grid_points = grid_points;
  a.is_double = type == ScalarType::Double;
  a.return_u_max = return_u_max;
  return a;
}

// ---- the operators

// What the backward pass needs to know of the forward pass lies in one tensor of 32-bit words: for a single sample making
// tensors takes longer than finding the spikes.
int64_t tape_words(const SpikePropEvents& a) {
  const int64_t real = a.is_double ? 2 : 1, terminals = a.B * a.N, neurons = a.B * a.O;
  return terminals * (real + 1) + neurons * (a.return_u_max ? real + 1 : 1) + 2 * a.B;
}

struct Tape {
  void* time;
  int32_t* before;
};

Tape lay_out(SpikePropEvents& a, const Tensor& tape) {
  const int64_t real = a.is_double ? 2 : 1, terminals = a.B * a.N, neurons = a.B * a.O;
  int32_t* words = static_cast<int32_t*>(tape.mutable_data_ptr());
  a.times = words;
  int32_t* time = words + terminals * real;
  a.order = time + (a.return_u_max ? neurons * real : 0);
  int32_t* before = a.order + terminals;
  a.counts = before + neurons;
  return {time, before};
}

template <class Device>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> spikeprop_forward(const Tensor& t_in, const Tensor& w, const Tensor& delays, const OptionalTensor& tau,
                                                                     std::vector<double> numbers, int64_t grid_points, bool return_u_max) {
  STD_TORCH_CHECK(t_in.dim() == 2, "spikeprop: t_in must have shape [B, I]");
  SpikePropForward a{};
  a.events = events_of(w, delays, tau, numbers, t_in.size(0), grid_points, return_u_max);
  SpikePropEvents& events = a.events;
  const ScalarType type = w.scalar_type();
  check("t_in", t_in, w, type, {events.B, events.I});
  const Device device(w);
  const std::vector<int64_t> neurons{events.B, events.O};
  Tensor t_out = device.allocate(w, neurons, type), u_max = device.allocate(w, return_u_max ? neurons : std::vector<int64_t>{0}, type);
  Tensor slope = device.allocate(w, neurons, type), tape = device.allocate(w, {tape_words(events)}, ScalarType::Int);
  Tensor status = device.allocate(w, {1}, ScalarType::Int);
  events.t_in = t_in.const_data_ptr();
  const Tape found = lay_out(events, tape);
  a.w = w.const_data_ptr();
  a.t_out = t_out.mutable_data_ptr(), a.u_max = u_max.mutable_data_ptr(), a.slope = slope.mutable_data_ptr();
  a.time = found.time, a.before = found.before;
  a.status = static_cast<int32_t*>(status.mutable_data_ptr());
  run_forward(device, w, a);
  return {t_out, u_max, slope, tape, status};
}

template <class Device>
std::tuple<Tensor, Tensor, Tensor, Tensor> spikeprop_backward(const OptionalTensor& grad_t, const OptionalTensor& grad_u, const Tensor& w, const Tensor& delays,
                                                              const OptionalTensor& tau, std::vector<double> numbers, int64_t grid_points, bool return_u_max,
                                                              double slope_min, const Tensor& t_out, const Tensor& slope, const Tensor& tape,
                                                              std::vector<bool> wanted) {
  STD_TORCH_CHECK(t_out.dim() == 2 && wanted.size() == 4, "spikeprop: t_out must have shape [B, O], and wanted four values");
  SpikePropBackward a{};
  a.events = events_of(w, delays, tau, numbers, t_out.size(0), grid_points, return_u_max);
  SpikePropEvents& events = a.events;
  const ScalarType type = w.scalar_type();
  const std::vector<int64_t> neurons{events.B, events.O};
  check("t_out", t_out, w, type, neurons);
  check("slope", slope, w, type, neurons);
  check("tape", tape, w, ScalarType::Int, {tape_words(events)});
  if (grad_t) check("grad_t", *grad_t, w, type, neurons);
  if (grad_u) check("grad_u", *grad_u, w, type, return_u_max ? neurons : std::vector<int64_t>{0});
  const Device device(w);
  const auto gradient = [&](bool is_wanted, const std::vector<int64_t>& shape) {
    return device.allocate(w, is_wanted ? shape : std::vector<int64_t>{0}, type);
  };
  Tensor grad_t_in = gradient(wanted[0], {events.B, events.I}), grad_w = gradient(wanted[1], {events.O, events.I, events.K});
  Tensor grad_delays = gradient(wanted[2], events.delay_stride ? std::vector<int64_t>{events.I, events.K} : std::vector<int64_t>{events.K});
  Tensor grad_tau = gradient(wanted[3], {});
  const Tape found = lay_out(events, tape);
  a.slope_min = slope_min;
  a.w = w.const_data_ptr();
  a.grad_t = grad_t ? grad_t->const_data_ptr() : nullptr;
  a.grad_u = grad_u && return_u_max ? grad_u->const_data_ptr() : nullptr;
  a.t_out = t_out.const_data_ptr(), a.slope = slope.const_data_ptr(), a.time = found.time;
  a.before = found.before;
  const auto pointer = [](bool is_wanted, const Tensor& t) { return is_wanted ? t.mutable_data_ptr() : nullptr; };
  a.grad_t_in = pointer(wanted[0], grad_t_in), a.grad_w = pointer(wanted[1], grad_w);
  a.grad_delays = pointer(wanted[2], grad_delays), a.grad_tau = pointer(wanted[3], grad_tau);
  run_backward(device, w, a);
  return {grad_t_in, grad_w, grad_delays, grad_tau};
}

template <class Library>
void schemas(Library& m) {
  m.def(
      "spikeprop_forward(Tensor t_in, Tensor w, Tensor delays, Tensor? tau, float[] numbers, int grid_points, bool return_u_max) "
      "-> (Tensor t_out, Tensor u_max, Tensor slope, Tensor tape, Tensor status)");
  m.def(
      "spikeprop_backward(Tensor? grad_t, Tensor? grad_u, Tensor w, Tensor delays, Tensor? tau, float[] numbers, int grid_points, bool return_u_max, "
      "float slope_min, Tensor t_out, Tensor slope, Tensor tape, bool[] wanted) "
      "-> (Tensor grad_t_in, Tensor grad_w, Tensor grad_delays, Tensor grad_tau)");
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("spikeprop_forward", TORCH_BOX(&spikeprop_forward<Device>));
  m.impl("spikeprop_backward", TORCH_BOX(&spikeprop_backward<Device>));
}

}  // namespace
}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
