#include "core/spike_count.h"

#include "cpu/dispatch.h"
#include "ops/neuron.h"

SNNFAST_CPU_KERNEL(spike_count, (const NeuronForward<SpikeCount>&, int64_t begin, int64_t end))

namespace snnfast {

int launch_spike_count(const NeuronForward<SpikeCount>&, void* stream);

namespace {

#define SNNFAST_SPIKE_COUNT_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                           \
  FIELD(Optional, v)                         \
  FIELD(Optional, count)                     \
  FIELD(Parameter, v_threshold)              \
  FIELD(std::optional<double>, v_reset)
SNNFAST_ARGUMENTS(Arguments, SNNFAST_SPIKE_COUNT_ARGUMENTS)

template <class Device>
std::tuple<Tensor, Tensor> spike_count(const Arguments& arguments) {
  const Tensor& x = arguments.x;
  NeuronTensors tensors("spike_count", x);
  const Device device(x);
  NeuronForward<SpikeCount> a{};
  a.T = x.size(0);
  a.N = tensors.count();
  a.x = tensors.rows(x, "x");
  a.state_in[SpikeCount::kV] = tensors.neurons(arguments.v, "v");
  a.state_in[SpikeCount::kCount] = tensors.neurons(arguments.count, "count");
  a.param[SpikeCount::kVThreshold] = tensors.param(arguments.v_threshold, "v_threshold");
  a.settings[SpikeCount::kVReset] = arguments.v_reset.value_or(0.);
  a.reset = arguments.v_reset ? Reset::hard : Reset::soft;
  const Tensor v_out = device.allocate(x, tensors.shape(), tensors.state_type());
  const Tensor count_out = device.allocate(x, tensors.shape(), tensors.state_type());
  a.state_out[SpikeCount::kV] = v_out.mutable_data_ptr();
  a.state_out[SpikeCount::kCount] = count_out.mutable_data_ptr();
  if (a.N > 0) {
    if constexpr (Device::kCuda)
      device.launch("spike_count", [&](void* stream) { return launch_spike_count(a, stream); });
    else
      device.parallel(a.N, a.T, [&](int64_t begin, int64_t end) { cpu::spike_count()(a, begin, end); });
  }
  return {count_out, v_out};
}

SNNFAST_OPERATOR("spike_count", spike_count, "(Tensor count_out, Tensor v_out)")

}  // namespace
}  // namespace snnfast
