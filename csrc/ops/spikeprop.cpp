#include "core/spikeprop.h"

#include <atomic>
#include <vector>

#include "core/arena.h"
#include "cpu/dispatch.h"
#include "ops/arguments.h"
#include "ops/scratch.h"
#include "ops/weights.h"

SNNFAST_CPU_KERNEL(spikeprop_sizes, (const SpikePropEvents&, bool backward, SpikePropSizes*))
SNNFAST_CPU_KERNEL(spikeprop_sort, (const SpikePropForward&, char* memory, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(spikeprop_mark, (const SpikePropEvents&, bool backward, char* memory))
SNNFAST_CPU_KERNEL(spikeprop_pack,
                   (const SpikePropEvents&, const void* w, bool backward, char* memory, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(spikeprop_fire, (const SpikePropForward&, char* memory, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(spikeprop_finish, (const SpikePropForward&, char* memory))
SNNFAST_CPU_KERNEL(spikeprop_intervals,
                   (const SpikePropBackward&, char* memory, int64_t begin, int64_t end, bool* fits))
SNNFAST_CPU_KERNEL(spikeprop_sum_weights,
                   (const SpikePropBackward&, char* memory, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(spikeprop_sum_events,
                   (const SpikePropBackward&, char* memory, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(spikeprop_sum_all, (const SpikePropBackward&, char* memory))

namespace snnfast {

int64_t spikeprop_workspace(const SpikePropEvents&, bool backward);
int launch_spikeprop_forward(const SpikePropForward&, void* workspace, void* stream);
int launch_spikeprop_backward(const SpikePropBackward&, void* workspace, void* stream);

namespace {

template <class Device>
void run_forward(const Device& device, const Tensor& like, const SpikePropForward& a) {
  if constexpr (Device::kCuda) {
    const Tensor workspace = device.allocate(like, {spikeprop_workspace(a.events, false)}, ScalarType::Byte);
    device.launch("spikeprop",
                  [&](void* stream) { return launch_spikeprop_forward(a, workspace.mutable_data_ptr(), stream); });
  } else {
    const SpikePropEvents& events = a.events;
    SpikePropSizes sizes;
    cpu::spikeprop_sizes()(events, false, &sizes);
    const Tensor memory = device.allocate(like, {sizes.memory + 64}, ScalarType::Byte);
    char* const m = aligned(static_cast<char*>(memory.mutable_data_ptr()));
    const size_t scratch = static_cast<size_t>(sizes.sort_scratch);
    in_parallel(events.B, 8 * events.N + events.grid_points,
                [&](int64_t begin, int64_t end) { cpu::spikeprop_sort()(a, m, begin, end, thread_scratch(scratch)); });
    cpu::spikeprop_mark()(events, false, m);
    in_parallel(sizes.blocks, 32 * events.N,
                [&](int64_t begin, int64_t end) { cpu::spikeprop_pack()(events, a.w, false, m, begin, end); });
    in_parallel(sizes.blocks * events.B, 4 * events.N + events.grid_points + 400,
                [&](int64_t begin, int64_t end) { cpu::spikeprop_fire()(a, m, begin, end); });
    cpu::spikeprop_finish()(a, m);
  }
}

template <class Device>
void run_backward(const Device& device, const Tensor& like, const SpikePropBackward& a) {
  if constexpr (Device::kCuda) {
    const Tensor workspace = device.allocate(like, {spikeprop_workspace(a.events, true)}, ScalarType::Byte);
    device.launch("spikeprop",
                  [&](void* stream) { return launch_spikeprop_backward(a, workspace.mutable_data_ptr(), stream); });
  } else {
    const SpikePropEvents& events = a.events;
    SpikePropSizes sizes;
    cpu::spikeprop_sizes()(events, true, &sizes);
    const Tensor memory = device.allocate(like, {sizes.memory + 64}, ScalarType::Byte);
    char* const m = aligned(static_cast<char*>(memory.mutable_data_ptr()));
    const size_t scratch = static_cast<size_t>(sizes.sum_scratch);
    std::atomic<bool> fits{true};
    in_parallel(events.B, 8 * events.N, [&](int64_t begin, int64_t end) {
      bool valid = true;
      cpu::spikeprop_intervals()(a, m, begin, end, &valid);
      if (!valid) fits = false;
    });
    SNNFAST_CHECK(fits, "spikeprop: tape must be that of a forward pass with these arguments, got another");
    if (a.grad_w)
      in_parallel(sizes.blocks * sizes.pieces, 4 * events.N * events.B / sizes.pieces, [&](int64_t begin, int64_t end) {
        cpu::spikeprop_sum_weights()(a, m, begin, end, thread_scratch(scratch));
      });
    if (a.grad_t_in || a.grad_delays || a.grad_tau) {
      cpu::spikeprop_mark()(events, true, m);
      in_parallel(sizes.blocks, 32 * events.N,
                  [&](int64_t begin, int64_t end) { cpu::spikeprop_pack()(events, a.w, true, m, begin, end); });
      in_parallel(events.B, 8 * events.N * sizes.blocks, [&](int64_t begin, int64_t end) {
        cpu::spikeprop_sum_events()(a, m, begin, end, thread_scratch(scratch));
      });
    }
    cpu::spikeprop_sum_all()(a, m);
  }
}

// ---- checks

#define SNNFAST_SPIKEPROP_ARGUMENTS(FIELD) \
  FIELD(Tensor, t_in)                      \
  FIELD(Tensor, w)                         \
  FIELD(Tensor, delays)                    \
  FIELD(Parameter, tau)                    \
  FIELD(double, v_threshold)               \
  FIELD(double, t_max)                     \
  FIELD(double, dt)                        \
  FIELD(int64_t, grid_points)              \
  FIELD(double, slope_min)                 \
  FIELD(bool, return_u_max)                \
  FIELD(bool, return_slope)                \
  FIELD(bool, validate)
SNNFAST_ARGUMENTS(Arguments, SNNFAST_SPIKEPROP_ARGUMENTS)

void check(const char* name, const Tensor& t, const Tensor& w, ScalarType type, const std::vector<int64_t>& shape) {
  check_like("spikeprop", name, t, w, type, shape);
  check_contiguous("spikeprop", name, t);
}

SpikePropEvents events_of(const Arguments& arguments) {
  const Tensor &t_in = arguments.t_in, &w = arguments.w, &delays = arguments.delays;
  const Optional& tau = arguments.tau.tensor;
  const ScalarType type = w.scalar_type();
  check_float32_or_float64("spikeprop", "w", w);
  SNNFAST_CHECK(w.dim() == 3, "spikeprop: w must have shape [O, I, K], got ", shape_of(w));
  check_contiguous("spikeprop", "w", w);
  SNNFAST_CHECK(t_in.dim() == 2, "spikeprop: t_in must have shape [B, I], got ", shape_of(t_in));
  SNNFAST_CHECK(arguments.grid_points >= 0 && arguments.grid_points < (int64_t{1} << 31),
                "spikeprop: grid_points must be 0 to 2^31 - 1, got ", arguments.grid_points);
  SpikePropEvents a{};
  a.B = t_in.size(0), a.O = w.size(0), a.I = w.size(1), a.K = w.size(2), a.N = elements("spikeprop", {a.I, a.K});
  SNNFAST_CHECK(a.N < (int64_t{1} << 30), "spikeprop: a neuron must have fewer than 2^30 terminals, got ", a.N);
  // 64 more elements per sample and per neuron, for the work memory of the kernels.
  elements("spikeprop", {a.B, a.N + 64}), elements("spikeprop", {a.O, a.N + 64});
  elements("spikeprop", {a.B, a.O}), elements("spikeprop", {a.B, arguments.grid_points});
  check("t_in", t_in, w, type, {a.B, a.I});
  check("delays", delays, w, type, delays.dim() == 2 ? std::vector<int64_t>{a.I, a.K} : std::vector<int64_t>{a.K});
  if (tau) check("tau", *tau, w, type, {});
  a.t_in = t_in.const_data_ptr();
  a.delays = delays.const_data_ptr();
  a.delay_stride = delays.dim() == 2 ? a.K : 0;
  a.tau_tensor = tau ? tau->const_data_ptr() : nullptr;
  a.tau = arguments.tau.value, a.v_threshold = arguments.v_threshold, a.t_max = arguments.t_max, a.dt = arguments.dt;
  a.grid_points = arguments.grid_points;
  a.is_double = type == ScalarType::Double;
  a.return_u_max = arguments.return_u_max;
  return a;
}

// ---- the operators

// The tensors saved for the backward pass are one tensor of 32-bit words: for a single sample
// making tensors takes longer than finding the spikes.
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
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> spikeprop_forward(const Arguments& arguments) {
  const Tensor& w = arguments.w;
  SpikePropForward a{};
  a.events = events_of(arguments);
  SpikePropEvents& events = a.events;
  const ScalarType type = w.scalar_type();
  const Device device(w);
  const std::vector<int64_t> neurons{events.B, events.O};
  Tensor t_out = device.allocate(w, neurons, type),
         u_max = device.allocate(w, events.return_u_max ? neurons : std::vector<int64_t>{0}, type);
  Tensor slope = device.allocate(w, neurons, type), tape = device.allocate(w, {tape_words(events)}, ScalarType::Int);
  Tensor status = device.allocate(w, {1}, ScalarType::Int);
  const Tape found = lay_out(events, tape);
  a.w = w.const_data_ptr();
  a.t_out = t_out.mutable_data_ptr(), a.u_max = u_max.mutable_data_ptr(), a.slope = slope.mutable_data_ptr();
  a.time = found.time, a.before = found.before;
  a.status = static_cast<int32_t*>(status.mutable_data_ptr());
  run_forward(device, w, a);
  return {t_out, u_max, slope, tape, status};
}

// Gradients of t_in, w, delays and tau; empty where not wanted.
template <class Device>
std::tuple<Tensor, Tensor, Tensor, Tensor> spikeprop_backward(const Arguments& arguments, Tensor t_out, Tensor slope,
                                                              Tensor tape, Optional grad_t, Optional grad_u,
                                                              bool t_in_wanted, bool w_wanted, bool delays_wanted,
                                                              bool tau_wanted) {
  const Tensor& w = arguments.w;
  SpikePropBackward a{};
  a.events = events_of(arguments);
  SpikePropEvents& events = a.events;
  const ScalarType type = w.scalar_type();
  const std::vector<int64_t> neurons{events.B, events.O};
  check("t_out", t_out, w, type, neurons);
  check("slope", slope, w, type, neurons);
  check("tape", tape, w, ScalarType::Int, {tape_words(events)});
  if (grad_t) check("grad_t", *grad_t, w, type, neurons);
  if (grad_u) check("grad_u", *grad_u, w, type, events.return_u_max ? neurons : std::vector<int64_t>{0});
  const Device device(w);
  const auto gradient = [&](bool wanted, const std::vector<int64_t>& shape, void*& pointer) {
    const Tensor t = device.allocate(w, wanted ? shape : std::vector<int64_t>{0}, type);
    pointer = wanted ? t.mutable_data_ptr() : nullptr;
    return t;
  };
  const Tensor grad_t_in = gradient(t_in_wanted, {events.B, events.I}, a.grad_t_in);
  const Tensor grad_w = gradient(w_wanted, {events.O, events.I, events.K}, a.grad_w);
  const std::vector<int64_t> terminals =
      events.delay_stride ? std::vector<int64_t>{events.I, events.K} : std::vector<int64_t>{events.K};
  const Tensor grad_delays = gradient(delays_wanted, terminals, a.grad_delays);
  const Tensor grad_tau = gradient(tau_wanted, {}, a.grad_tau);
  const Tape found = lay_out(events, tape);
  a.slope_min = arguments.slope_min;
  a.w = w.const_data_ptr();
  a.grad_t = grad_t ? grad_t->const_data_ptr() : nullptr;
  a.grad_u = grad_u && events.return_u_max ? grad_u->const_data_ptr() : nullptr;
  a.t_out = t_out.const_data_ptr(), a.slope = slope.const_data_ptr(), a.time = found.time;
  a.before = found.before;
  run_backward(device, w, a);
  return {grad_t_in, grad_w, grad_delays, grad_tau};
}

SNNFAST_OPERATOR("spikeprop_forward", spikeprop_forward,
                 "(Tensor t_out, Tensor u_max, Tensor slope, Tensor tape, Tensor status)")
SNNFAST_OPERATOR("spikeprop_backward", spikeprop_backward,
                 "(Tensor grad_t_in, Tensor grad_w, Tensor grad_delays, Tensor grad_tau)",
                 "Tensor t_out, Tensor slope, Tensor tape, Tensor? grad_t, Tensor? grad_u, bool t_in_wanted, "
                 "bool w_wanted, bool delays_wanted, bool tau_wanted")

}  // namespace
}  // namespace snnfast
