#include "core/bp_stdp_network.h"

#include <algorithm>
#include <tuple>

#include "cpu/bp_stdp_network.h"
#include "cpu/dispatch.h"
#include "ops/presentations.h"

SNNFAST_CPU_KERNEL(bp_stdp_network_bytes, (const BpStdpNetwork&, int64_t* bytes))
SNNFAST_CPU_KERNEL(bp_stdp_network, (const BpStdpNetwork&, ParallelFor, char* memory))

namespace snnfast {

int64_t bp_stdp_network_workspace(const BpStdpNetwork&);
int launch_bp_stdp_network(const BpStdpNetwork&, void* workspace, void* stream);

namespace {

constexpr const char* kOp = "bp_stdp_network";

void parallel_for(int64_t n, int64_t grain, const void* context, void (*body)(const void*, int64_t, int64_t)) {
  torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) { body(context, begin, end); });
}

BpStdpLayer layer_of(const Tensor& w, const Tensor& first, double threshold, int64_t inputs) {
  STD_TORCH_CHECK(w.dim() == 2 && w.size(1) == inputs && w.is_contiguous(), "bp_stdp_network: weights must fit each other and be contiguous");
  check_like(kOp, "weights", w, first, first.scalar_type(), {w.size(0), w.size(1)});
  STD_TORCH_CHECK(threshold > 0, "bp_stdp_network: thresholds must be positive");
  return {w.size(1), w.size(0), threshold, w.mutable_data_ptr(), nullptr, nullptr, 0};
}

void inputs_of(const Optional& x, const Optional& hz, const Optional& seeds, int64_t time_steps, double per_hz, const Tensor& first,
               BpStdpNetwork& a) {
  const int64_t inputs = first.size(1);
  if (x) {
    STD_TORCH_CHECK(x->dim() == 3 && x->is_contiguous(), "bp_stdp_network: x must have shape [T, P, I] and be contiguous");
    check_like(kOp, "x", *x, first, x->scalar_type(), {x->size(0), x->size(1), inputs});
    STD_TORCH_CHECK(is_spike_type(x->scalar_type()), "bp_stdp_network: x must be bool, uint8, float32 or float64");
    a.T = x->size(0), a.P = x->size(1);
    a.x = x->const_data_ptr(), a.width = static_cast<int32_t>(x->element_size());
  } else {
    STD_TORCH_CHECK(hz && seeds && hz->dim() == 2 && time_steps >= 0, "bp_stdp_network: give x, or hz, seeds and time_steps");
    check_like(kOp, "hz", *hz, first, ScalarType::Float, {hz->size(0), inputs});
    check_like(kOp, "seeds", *seeds, first, ScalarType::Long, {hz->size(0)});
    STD_TORCH_CHECK(hz->is_contiguous() && seeds->is_contiguous(), "bp_stdp_network: hz and seeds must be contiguous");
    a.T = time_steps, a.P = hz->size(0);
    a.hz = hz->const_data_ptr<float>(), a.seeds = seeds->const_data_ptr<int64_t>(), a.per_hz = static_cast<float>(per_hz);
  }
}

// state: membranes of every layer, changed in place, or empty; they are those to go on from if carry.
template <class Device>
std::tuple<Tensor, Tensor> bp_stdp_network(const std::vector<Tensor>& weights, const Optional& x, const Optional& hz, const Optional& seeds,
                                           int64_t time_steps, double per_hz, const Optional& labels, const Optional& desired,
                                           const std::vector<double>& thresholds, double lr, bool mean, int64_t epsilon, bool each_step, int64_t batch,
                                           const std::vector<Tensor>& state, bool carry, bool return_hidden) {
  const int64_t layers = static_cast<int64_t>(weights.size());
  STD_TORCH_CHECK(layers >= 1 && layers <= kBpStdpLayers, "bp_stdp_network: there must be 1 to ", kBpStdpLayers, " layers, got ", layers);
  const Tensor& first = weights[0];
  STD_TORCH_CHECK(first.scalar_type() == ScalarType::Float || first.scalar_type() == ScalarType::Double, "bp_stdp_network: weights must be float32 or float64");
  STD_TORCH_CHECK(first.dim() == 2, "bp_stdp_network: weights must have two dimensions");
  STD_TORCH_CHECK(static_cast<int64_t>(thresholds.size()) == layers, "bp_stdp_network: thresholds must be one a layer");
  STD_TORCH_CHECK(state.empty() || static_cast<int64_t>(state.size()) == layers, "bp_stdp_network: state must be one a layer");
  STD_TORCH_CHECK(labels.has_value() == desired.has_value(), "bp_stdp_network: labels and desired go together");
  STD_TORCH_CHECK(epsilon >= 1 && batch >= 1, "bp_stdp_network: epsilon and batch must be at least 1");
  const Device device(first);
  BpStdpNetwork a{};
  inputs_of(x, hz, seeds, time_steps, per_hz, first, a);
  a.batch = batch, a.epsilon = epsilon, a.layers = layers, a.lr = lr, a.mean = mean;
  a.span = labels && each_step ? 1 : std::max<int64_t>(a.T, 1);
  a.is_double = first.scalar_type() == ScalarType::Double;
  a.carry = carry && !state.empty();
  STD_TORCH_CHECK(a.T * std::max(first.size(1), int64_t{1}) < (int64_t{1} << 31), "bp_stdp_network: a sample must have less than 2^31 spikes");
  if (labels) {
    check_like(kOp, "labels", *labels, first, ScalarType::Long, {a.P});
    check_like(kOp, "desired", *desired, first, ScalarType::Bool, {a.T, a.P});
    STD_TORCH_CHECK(labels->is_contiguous() && desired->is_contiguous(), "bp_stdp_network: labels and desired must be contiguous");
    a.labels = labels->const_data_ptr<int64_t>();
    a.desired = desired->const_data_ptr<bool>();
  }
  int64_t hidden_neurons = 0;
  for (int64_t l = 0; l + 1 < layers && return_hidden; l++) hidden_neurons += weights[static_cast<size_t>(l)].size(0);
  Tensor hidden = torch::stable::new_zeros(first, {a.T, a.P, hidden_neurons}, ScalarType::Bool);
  Tensor spikes = torch::stable::new_zeros(first, {a.T, a.P, weights[static_cast<size_t>(layers - 1)].size(0)}, ScalarType::Bool);
  for (int64_t l = 0, inputs = first.size(1), before = 0; l < layers; l++) {
    const Tensor& w = weights[static_cast<size_t>(l)];
    a.layer[l] = layer_of(w, first, thresholds[static_cast<size_t>(l)], inputs);
    inputs = w.size(0);
    STD_TORCH_CHECK(a.T * std::max(inputs, int64_t{1}) < (int64_t{1} << 31), "bp_stdp_network: a sample must have less than 2^31 spikes");
    a.layer[l].spikes_stride = l + 1 == layers ? inputs : hidden_neurons;
    if (l + 1 == layers) {
      a.layer[l].spikes = static_cast<bool*>(spikes.mutable_data_ptr());
    } else if (return_hidden) {
      a.layer[l].spikes = static_cast<bool*>(hidden.mutable_data_ptr()) + before;
      before += inputs;
    }
    if (state.empty()) continue;
    const Tensor& v = state[static_cast<size_t>(l)];
    check_like(kOp, "state", v, first, first.scalar_type(), {a.P, inputs});
    STD_TORCH_CHECK(v.is_contiguous(), "bp_stdp_network: state must be contiguous");
    a.layer[l].v = v.mutable_data_ptr();
  }
  if (a.P == 0 || a.T == 0) return {spikes, hidden};
  if constexpr (Device::kCuda) {
    Tensor workspace = torch::stable::new_empty(first, {bp_stdp_network_workspace(a)}, ScalarType::Byte);
    device.launch(kOp, [&](void* stream) { return launch_bp_stdp_network(a, workspace.mutable_data_ptr(), stream); });
  } else {
    int64_t bytes;
    cpu::bp_stdp_network_bytes()(a, &bytes);
    const WorkMemory memory(first, bytes);
    cpu::bp_stdp_network()(a, parallel_for, memory.get());
  }
  return {spikes, hidden};
}

template <class Library>
void schemas(Library& m) {
  m.def(
      "bp_stdp_network_(Tensor(a!)[] weights, Tensor? x, Tensor? hz, Tensor? seeds, int time_steps, float per_hz, Tensor? labels, Tensor? desired, "
      "float[] thresholds, float lr, bool mean, int epsilon, bool each_step, int batch, Tensor(b!)[] state, bool carry, bool return_hidden) -> (Tensor, "
      "Tensor)");
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("bp_stdp_network_", TORCH_BOX(&bp_stdp_network<Device>));
}

}  // namespace
}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
