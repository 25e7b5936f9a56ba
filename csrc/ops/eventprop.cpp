#include "core/eventprop.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "cpu/dispatch.h"
#include "ops/arguments.h"
#include "ops/scratch.h"
#include "ops/weights.h"

SNNFAST_CPU_KERNEL(eventprop_sort, (const SpikePropEvents&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(eventprop_fire, (const EventPropForward&, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(eventprop_adjoints, (const EventPropBackward&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(eventprop_by_neuron, (const EventPropBackward&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(eventprop_by_sample, (const EventPropBackward&, int64_t begin, int64_t end, void* scratch))

namespace snnfast {

int64_t spikeprop_workspace(const SpikePropEvents&, bool backward);
int launch_spikeprop_sort(const SpikePropEvents&, void* workspace, void* stream);
int launch_eventprop_forward(const EventPropForward&, void* stream);
int launch_eventprop_backward(const EventPropBackward&, int32_t* left, void* stream);

namespace {

#define SNNFAST_EVENTPROP_ARGUMENTS(FIELD) \
  FIELD(Tensor, arrivals)                  \
  FIELD(Tensor, w)                         \
  FIELD(Optional, w_rec)                   \
  FIELD(Optional, delays_rec)              \
  FIELD(double, tau_mem)                   \
  FIELD(double, tau_syn)                   \
  FIELD(double, v_threshold)               \
  FIELD(double, t_max)                     \
  FIELD(int64_t, max_spikes)               \
  FIELD(bool, stops)                       \
  FIELD(double, slope_min)                 \
  FIELD(bool, return_u_max)                \
  FIELD(bool, return_slope)                \
  FIELD(bool, validate)
SNNFAST_ARGUMENTS(Arguments, SNNFAST_EVENTPROP_ARGUMENTS)

void check(const char* name, const Tensor& t, const Tensor& w, ScalarType type, const std::vector<int64_t>& shape) {
  check_like("eventprop", name, t, w, type, shape);
  check_contiguous("eventprop", name, t);
}

// Memory to which the kernels of a call point.
struct Held {
  std::vector<Tensor> tensors;
  void* take(const Tensor& t) {
    tensors.push_back(t);
    return t.mutable_data_ptr();
  }
  void* take_transposed(const Tensor& t) { return take(contiguous_of(torch::stable::transpose(t, 0, 1))); }
};

constexpr int64_t kBlock = 64;  // neurons, cpu/eventprop.cpp

// Sorts the rows of a matrix of times.
template <class Device>
SpikePropEvents sorted_rows(const Device& device, Held& held, const Tensor& matrix, int64_t rows, int64_t length,
                            double t_max) {
  const bool is_double = matrix.scalar_type() == ScalarType::Double;
  SpikePropEvents a{};
  a.t_in = matrix.const_data_ptr();
  a.delays = held.take(zeros(matrix, {1}, matrix.scalar_type()));
  a.tau = 1, a.t_max = t_max;
  a.B = rows, a.I = a.N = length, a.K = 1;
  a.is_double = is_double;
  a.times = held.take(device.allocate(matrix, {rows, length}, matrix.scalar_type()));
  a.order = static_cast<int32_t*>(held.take(device.allocate(matrix, {rows, length}, ScalarType::Int)));
  a.counts = static_cast<int32_t*>(held.take(device.allocate(matrix, {rows, 2}, ScalarType::Int)));
  if constexpr (Device::kCuda) {
    const Tensor workspace = device.allocate(matrix, {spikeprop_workspace(a, false)}, ScalarType::Byte);
    device.launch("eventprop",
                  [&](void* stream) { return launch_spikeprop_sort(a, workspace.mutable_data_ptr(), stream); });
  } else {
    const size_t scratch = static_cast<size_t>(length) * (sizeof(double) + 11);  // SortMemory, cpu/spikeprop_events.h
    in_parallel(rows, 8 * length,
                [&](int64_t begin, int64_t end) { cpu::eventprop_sort()(a, begin, end, thread_scratch(scratch)); });
  }
  return a;
}

template <class Device>
EventProp common(const Device& device, Held& held, const Arguments& arguments, bool backward) {
  const Tensor &arrivals = arguments.arrivals, &w = arguments.w;
  const ScalarType type = w.scalar_type();
  check_float32_or_float64("eventprop", "w", w);
  SNNFAST_CHECK(w.dim() == 2, "eventprop: w must have shape [N, I], got ", shape_of(w));
  check_contiguous("eventprop", "w", w);
  SNNFAST_CHECK(arrivals.dim() == 3 || arrivals.dim() == 4,
                "eventprop: arrivals must have shape [B, I, S] or [B, N, I, S], got ", shape_of(arrivals));
  SNNFAST_CHECK(arguments.max_spikes >= 1 && arguments.max_spikes < (int64_t{1} << 30),
                "eventprop: max_spikes must be 1 to 2^30 - 1, got ", arguments.max_spikes);
  EventProp a{};
  a.B = arrivals.size(0), a.N = w.size(0), a.I = w.size(1), a.S_in = arrivals.size(-1), a.S = arguments.max_spikes;
  a.rows_of_neurons = arrivals.dim() == 4;
  const int64_t E = elements("eventprop", {a.I, a.S_in});
  std::vector<int64_t> shape{a.B, a.I, a.S_in};
  if (a.rows_of_neurons) shape.insert(shape.begin() + 1, a.N);
  check("arrivals", arrivals, w, type, shape);
  if (arguments.w_rec) check("w_rec", *arguments.w_rec, w, type, {a.N, a.N});
  SNNFAST_CHECK(arguments.w_rec || !arguments.delays_rec, "eventprop: delays_rec must come with w_rec");
  if (arguments.delays_rec) check("delays_rec", *arguments.delays_rec, w, type, {a.N, a.N});
  a.one_row = a.rows_of_neurons && arguments.w_rec && !backward;
  const int64_t rows = a.rows_of_neurons && !a.one_row ? elements("eventprop", {a.B, a.N}) : a.B;
  const int64_t length = a.one_row ? elements("eventprop", {a.N, E}) : E, spikes = elements("eventprop", {a.N, a.S});
  SNNFAST_CHECK(length < (int64_t{1} << 30) && E + spikes < (int64_t{1} << 31),
                "eventprop: a sample must have fewer than 2^30 arrivals and, with spikes, 2^31, got ", length, " and ",
                E + spikes);
  elements("eventprop", {a.B, a.N, a.S}), elements("eventprop", {rows, length + 64});
  a.tau_mem = arguments.tau_mem, a.tau_syn = arguments.tau_syn, a.v_threshold = arguments.v_threshold;
  a.t_max = arguments.t_max, a.slope_min = arguments.slope_min;
  a.is_double = type == ScalarType::Double;
  a.return_u_max = arguments.return_u_max, a.stops = arguments.stops;
  // Sorted again in the backward pass, so that only the inputs are saved.
  if (!(backward && Device::kCuda)) a.inputs = sorted_rows(device, held, arrivals, rows, length, a.t_max);
  if (arguments.w_rec) a.w_rec = arguments.w_rec->const_data_ptr();
  return a;
}

template <class Device>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> eventprop_forward(const Arguments& arguments) {
  const Tensor& w = arguments.w;
  const Device device(w);
  Held held;
  EventPropForward f{};
  f.a = common(device, held, arguments, false);
  EventProp& a = f.a;
  a.w_in = held.take_transposed(w);
  if (arguments.w_rec) a.w_rec = held.take_transposed(*arguments.w_rec);
  if (arguments.delays_rec) {
    held.tensors.push_back(contiguous_of(torch::stable::transpose(*arguments.delays_rec, 0, 1)));
    const Tensor delays = held.tensors.back();
    a.waits = sorted_rows(device, held, delays, a.N, a.N, std::numeric_limits<double>::infinity());
  }
  const ScalarType type = w.scalar_type();
  const std::vector<int64_t> spikes{a.B, a.N, a.S},
      neurons = a.return_u_max ? std::vector<int64_t>{a.B, a.N} : std::vector<int64_t>{0};
  Tensor t_out = device.allocate(w, spikes, type), u_max = device.allocate(w, neurons, type);
  Tensor slope = device.allocate(w, spikes, type), peak = device.allocate(w, neurons, type);
  Tensor source = device.allocate(w, neurons, ScalarType::Int);
  f.t_out = t_out.mutable_data_ptr(), f.u_max = u_max.mutable_data_ptr(), f.slope = slope.mutable_data_ptr();
  f.peak = peak.mutable_data_ptr(), f.source = static_cast<int32_t*>(source.mutable_data_ptr());
  if (a.w_rec) {
    const int64_t bytes =
        a.is_double ? RecurrentMemory<double>(a, nullptr).bytes : RecurrentMemory<float>(a, nullptr).bytes;
    f.memory = held.take(device.allocate(w, {elements("eventprop", {a.B, bytes})}, ScalarType::Byte));
  }
  if constexpr (Device::kCuda) {
    device.launch("eventprop", [&](void* stream) { return launch_eventprop_forward(f, stream); });
  } else {
    const int64_t blocks = (a.N + kBlock - 1) / kBlock;
    const int64_t items = a.w_rec ? a.B : a.rows_of_neurons ? a.B * a.N : a.B * blocks;
    if (a.N > 0)
      in_parallel(items, 64 * (a.inputs.N + 8),
                  [&](int64_t begin, int64_t end) { cpu::eventprop_fire()(f, begin, end); });
  }
  return {t_out, u_max, slope, peak, source};
}

// Gradients of arrivals, w, w_rec and delays_rec; empty where not requested.
template <class Device>
std::tuple<Tensor, Tensor, Tensor, Tensor> eventprop_backward(const Arguments& arguments, Tensor t_out, Tensor slope,
                                                              Tensor peak, Tensor source, Optional grad_t,
                                                              Optional grad_u, bool arrivals_wanted, bool w_wanted,
                                                              bool w_rec_wanted, bool delays_rec_wanted) {
  const Tensor& w = arguments.w;
  const Device device(w);
  Held held;
  EventPropBackward f{};
  f.a = common(device, held, arguments, true);
  const EventProp& a = f.a;
  const ScalarType type = w.scalar_type();
  const std::vector<int64_t> spikes{a.B, a.N, a.S},
      neurons = a.return_u_max ? std::vector<int64_t>{a.B, a.N} : std::vector<int64_t>{0};
  check("t_out", t_out, w, type, spikes);
  check("slope", slope, w, type, spikes);
  check("peak", peak, w, type, neurons);
  check("source", source, w, ScalarType::Int, neurons);
  if (grad_t) check("grad_t", *grad_t, w, type, spikes);
  if (grad_u) check("grad_u", *grad_u, w, type, neurons);
  const auto gradient = [&](bool wanted, const std::vector<int64_t>& shape, void*& pointer) {
    const Tensor t = device.allocate(w, wanted ? shape : std::vector<int64_t>{0}, type);
    pointer = wanted ? t.mutable_data_ptr() : nullptr;
    return t;
  };
  const Tensor grad_arrivals = gradient(arrivals_wanted, sizes_of(arguments.arrivals), f.grad_arrivals);
  const Tensor grad_w = gradient(w_wanted, {a.N, a.I}, f.grad_w);
  const Tensor grad_w_rec = gradient(w_rec_wanted && arguments.w_rec, {a.N, a.N}, f.grad_w_rec);
  const Tensor grad_delays = gradient(delays_rec_wanted && arguments.delays_rec, {a.N, a.N}, f.grad_delays_rec);
  f.w = w.const_data_ptr(), f.w_out = a.w_rec;
  f.delays_rec = arguments.delays_rec ? arguments.delays_rec->const_data_ptr() : nullptr;
  f.arrivals = arguments.arrivals.const_data_ptr();
  f.grad_t = grad_t ? grad_t->const_data_ptr() : nullptr;
  f.grad_u = grad_u && a.return_u_max ? grad_u->const_data_ptr() : nullptr;
  f.t_out = t_out.const_data_ptr(), f.slope = slope.const_data_ptr(), f.peak = peak.const_data_ptr();
  f.source = static_cast<const int32_t*>(source.const_data_ptr());
  f.time = held.take(device.allocate(w, spikes, type));
  f.by_potential = held.take(device.allocate(w, spikes, type));
  f.by_current = held.take(device.allocate(w, spikes, type));
  if constexpr (Device::kCuda) {
    int32_t* left = static_cast<int32_t*>(held.take(device.allocate(w, {a.B, a.w_rec ? a.N : 0}, ScalarType::Int)));
    device.launch("eventprop", [&](void* stream) { return launch_eventprop_backward(f, left, stream); });
  } else {
    const bool by_sample = f.grad_arrivals && !a.rows_of_neurons;
    if (by_sample) f.a.w_in = held.take_transposed(w);
    if (arguments.w_rec && !f.delays_rec) {
      f.a.w_rec = held.take_transposed(*arguments.w_rec);
      f.spikes = sorted_rows(device, held, t_out, a.B, elements("eventprop", {a.N, a.S}), a.t_max);
    }
    const int64_t events = std::max(a.inputs.N, f.spikes.N), sources = std::max(a.I, arguments.w_rec ? a.N : 0);
    const size_t scratch = static_cast<size_t>(3 * events + kBlock * sources) * sizeof(double);
    in_parallel(a.B, 64 * a.N * a.S, [&](int64_t begin, int64_t end) {
      cpu::eventprop_adjoints()(f, begin, end, thread_scratch(static_cast<size_t>(3 * a.N) * sizeof(double)));
    });
    const int64_t items = a.rows_of_neurons ? a.N : (a.N + kBlock - 1) / kBlock;
    in_parallel(items, 64 * a.B * (a.inputs.N + 8), [&](int64_t begin, int64_t end) {
      cpu::eventprop_by_neuron()(f, begin, end, thread_scratch(scratch));
    });
    if (by_sample)
      in_parallel(a.B, 2 * a.N * a.inputs.N, [&](int64_t begin, int64_t end) {
        cpu::eventprop_by_sample()(f, begin, end, thread_scratch(scratch));
      });
  }
  return {grad_arrivals, grad_w, grad_w_rec, grad_delays};
}

SNNFAST_OPERATOR("eventprop_forward", eventprop_forward,
                 "(Tensor t_out, Tensor u_max, Tensor slope, Tensor peak, Tensor source)")
SNNFAST_OPERATOR("eventprop_backward", eventprop_backward,
                 "(Tensor grad_arrivals, Tensor grad_w, Tensor grad_w_rec, Tensor grad_delays_rec)",
                 "Tensor t_out, Tensor slope, Tensor peak, Tensor source, Tensor? grad_t, Tensor? grad_u, "
                 "bool arrivals_wanted, bool w_wanted, bool w_rec_wanted, bool delays_rec_wanted")

}  // namespace
}  // namespace snnfast
