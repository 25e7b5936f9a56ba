#include "core/bp_stdp_network.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "cpu/parallel_for.h"
#include "cpu/dispatch.h"
#include "ops/interrupt.h"
#include "ops/presentations.h"

SNNFAST_CPU_KERNEL(bp_stdp_network_bytes, (const BpStdpNetwork&, int64_t* bytes))
SNNFAST_CPU_KERNEL(bp_stdp_network, (const BpStdpNetwork&, ParallelFor, char* memory))

#define SNNFAST_BP_STDP_NETWORK_ARGUMENTS(FIELD) \
  FIELD(ChangedList, weights)                    \
  FIELD(PresentationsArguments, x)               \
  FIELD(Optional, labels)                        \
  FIELD(Optional, desired)                       \
  FIELD(Parameters, thresholds)                  \
  FIELD(Parameter, lr)                           \
  FIELD(bool, mean)                              \
  FIELD(int64_t, epsilon)                        \
  FIELD(bool, each_step)                         \
  FIELD(int64_t, batch)                          \
  FIELD(std::vector<Tensor>, state)              \
  FIELD(bool, return_hidden)                     \
  FIELD(bool, return_state)

namespace snnfast {

int64_t bp_stdp_network_workspace(const BpStdpNetwork&);
int launch_bp_stdp_network(const BpStdpNetwork&, void* workspace, void* stream);

namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_BP_STDP_NETWORK_ARGUMENTS)

constexpr const char* kOp = "bp_stdp_network_";

void over_ranges(int64_t n, int64_t grain, const void* context, void (*body)(const void*, int64_t, int64_t)) {
  parallel_for(n, grain, [&](int64_t begin, int64_t end) { body(context, begin, end); });
}

void check_threshold(double threshold, const Tensor& w) {
  SNNFAST_CHECK((w.scalar_type() == ScalarType::Double ? threshold : static_cast<float>(threshold)) > 0, kOp,
                ": thresholds must be positive in the dtype of weights, got ", threshold);
}

void check_layers(const Arguments& arguments) {
  const std::vector<Tensor>& weights = arguments.weights.tensors;
  SNNFAST_CHECK(!weights.empty() && weights.size() <= static_cast<size_t>(kBpStdpLayers), kOp,
                ": weights must be those of 1 to ", kBpStdpLayers, " layers, got ", weights.size());
  SNNFAST_CHECK(arguments.thresholds.tensor || arguments.thresholds.values.size() == weights.size(), kOp,
                ": thresholds must have one entry for each of ", weights.size(), " layers, got ",
                arguments.thresholds.values.size());
  SNNFAST_CHECK(arguments.state.empty() || arguments.state.size() == weights.size(), kOp,
                ": state must be empty or have one entry for each of ", weights.size(), " layers, got ",
                arguments.state.size());
  for (size_t l = 0; l < weights.size(); l++) {
    const Tensor& w = weights[l];
    check_float32_or_float64(kOp, "weights", w);
    SNNFAST_CHECK(w.dim() == 2 || w.dim() == 3, kOp, ": weights must have shape [N, I] or [K, N, I], got ",
                  shape_of(w));
    check_contiguous(kOp, "weights", w);
    check_like(kOp, "weights", w, weights[0], weights[0].scalar_type(),
               of_networks(weights[0], {w.size(-2), l == 0 ? w.size(-1) : weights[l - 1].size(-2)}));
    if (!arguments.thresholds.tensor) check_threshold(arguments.thresholds.values[l], w);
    for (size_t k = 0; k < l; k++)
      SNNFAST_CHECK(!overlap(weights[k], w), kOp, ": weights must not share memory: those of layers ", k, " and ", l,
                    " do");
  }
}

// Threads process networks; a single network spreads its samples and neurons over threads.
void present_on_cpu(const BpStdpNetwork& a, const Tensor& first) {
  InterruptibleCall call;
  const auto present = [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++) {
      BpStdpNetwork network = a.network(k);
      network.interrupt = call.interrupt();
      int64_t bytes;
      cpu::bp_stdp_network_bytes()(network, &bytes);
      const WorkMemory memory(first, bytes);
      cpu::bp_stdp_network()(network, over_ranges, memory.get());
    }
  };
  if (a.networks == 1)
    present(0, 1);
  else
    parallel_for(a.networks, 1, present);
}

template <class Device>
std::tuple<Tensor, Tensor, Tensor> bp_stdp_network(const Arguments& arguments) {
  check_layers(arguments);
  const std::vector<Tensor>& weights = arguments.weights.tensors;
  const Tensor& first = weights[0];
  const Device device(first);
  std::vector<Tensor> copies;
  BpStdpNetwork a{};
  a.networks = networks_of(first);
  a.x = presentations_of(kOp, device, first, arguments.x, copies);
  SNNFAST_CHECK(a.x.form != PresentationForm::events, kOp, ": x must be spikes or rates, got events");
  SNNFAST_CHECK(arguments.labels.has_value() == arguments.desired.has_value(), kOp,
                ": labels and desired must be given together, got only ", arguments.labels ? "labels" : "desired");
  SNNFAST_CHECK(arguments.epsilon >= 1 && arguments.batch >= 1, kOp, ": epsilon and batch must be at least 1, got ",
                arguments.epsilon, " and ", arguments.batch);
  a.layers = static_cast<int64_t>(weights.size());
  a.batch = arguments.batch, a.epsilon = arguments.epsilon, a.mean = arguments.mean;
  // Settings that differ between networks.
  const auto per_network = [&](const char* name, const Tensor& t, const std::vector<int64_t>& part) {
    check_like(kOp, name, t, first, ScalarType::Double, of_networks(first, part));
    copies.push_back(contiguous_of(t));
    return copies.back().const_data_ptr<double>();
  };
  a.lr = arguments.lr.value;
  if (arguments.lr.tensor) a.lrs = per_network("lr", *arguments.lr.tensor, {});
  if (arguments.thresholds.tensor) {
    a.thresholds = per_network("thresholds", *arguments.thresholds.tensor, {a.layers});
    for (int64_t e = 0; !Device::kCuda && e < a.networks * a.layers; e++) check_threshold(a.thresholds[e], first);
  }
  a.learns = arguments.labels.has_value(), a.carry = !arguments.state.empty(), a.return_state = arguments.return_state;
  a.span = a.learns && arguments.each_step ? 1 : std::max<int64_t>(a.x.T, 1);
  a.is_double = first.scalar_type() == ScalarType::Double;
  if (a.learns) {
    // Targets shared by all networks, or one per network. Returns the stride between networks, in elements.
    const auto add_target = [&](const char* name, const Tensor& t, ScalarType type, const std::vector<int64_t>& part) {
      const bool batched = is_of_networks(first, t, static_cast<int64_t>(part.size()));
      check_like(kOp, name, t, first, type, batched ? of_networks(first, part) : part);
      copies.push_back(contiguous_of(t));
      return batched && a.networks > 0 ? t.numel() / a.networks : 0;
    };
    a.labels_stride = add_target("labels", *arguments.labels, ScalarType::Long, {a.x.P});
    a.labels = copies.back().const_data_ptr<int64_t>();
    a.desired_stride = add_target("desired", *arguments.desired, ScalarType::Bool, {a.x.T, a.x.P});
    a.desired = copies.back().const_data_ptr<bool>();
  }
  int64_t neurons = 0, hidden_neurons = 0;
  for (const Tensor& w : weights) neurons += w.size(-2);
  if (arguments.return_hidden) hidden_neurons = neurons - weights.back().size(-2);
  Tensor hidden = zeros(first, of_networks(first, {a.x.T, a.x.P, hidden_neurons}), ScalarType::Bool);
  Tensor spikes = zeros(first, of_networks(first, {a.x.T, a.x.P, weights.back().size(-2)}), ScalarType::Bool);
  bool* next_hidden = static_cast<bool*>(hidden.mutable_data_ptr());
  // Membrane potentials, one layer after the other.
  Tensor state = device.allocate(first, {a.return_state ? a.networks * a.x.P * neurons : 0}, first.scalar_type());
  char* next_state = static_cast<char*>(state.mutable_data_ptr());
  for (size_t l = 0; l < weights.size(); l++) {
    BpStdpLayer& layer = a.layer[l];
    layer.I = weights[l].size(-1), layer.O = weights[l].size(-2),
    layer.threshold = arguments.thresholds.tensor ? 0 : arguments.thresholds.values[l];
    layer.w = weights[l].mutable_data_ptr();
    SNNFAST_CHECK(layer.O < (int64_t{1} << 31) && a.x.T * layer.O < (int64_t{1} << 31), kOp,
                  ": a layer must have fewer than 2^31 spikes, got ", a.x.T, " steps of ", layer.O, " neurons");
    if (l + 1 == weights.size()) {
      layer.spikes = static_cast<bool*>(spikes.mutable_data_ptr()), layer.spikes_stride = layer.O;
    } else if (arguments.return_hidden) {
      layer.spikes = next_hidden, layer.spikes_stride = hidden_neurons;
      next_hidden += layer.O;
    }
    if (a.carry) {
      check_like(kOp, "state", arguments.state[l], first, first.scalar_type(), of_networks(first, {a.x.P, layer.O}));
      copies.push_back(contiguous_of(arguments.state[l]));
      layer.v_before = copies.back().const_data_ptr();
    }
    if (a.return_state) {
      layer.v_after = next_state;
      next_state += a.networks * a.x.P * layer.O * state.element_size();
    }
  }
  if (a.networks == 0 || a.x.P == 0) return {spikes, hidden, state};
  if constexpr (Device::kCuda) {
    Tensor workspace = device.allocate(first, {bp_stdp_network_workspace(a)}, ScalarType::Byte);
    device.launch(kOp, [&](void* stream) { return launch_bp_stdp_network(a, workspace.mutable_data_ptr(), stream); });
  } else {
    present_on_cpu(a, first);
  }
  return {spikes, hidden, state};
}

SNNFAST_OPERATOR("bp_stdp_network_", bp_stdp_network, "(Tensor spikes, Tensor hidden, Tensor state)")

}  // namespace
}  // namespace snnfast
