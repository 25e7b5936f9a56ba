#include "core/spike_count.h"

#include "cpu/dispatch.h"
#include "ops/neuron.h"

SNNFAST_CPU_KERNEL(spike_count, (const NeuronForward&, int64_t begin, int64_t end))

namespace snnfast {

int launch_spike_count(const NeuronForward&, void* stream);

namespace {

template <class Device>
std::tuple<Tensor, Tensor> spike_count(const Tensor& x, const Optional& v, const Optional& count, double v_threshold, const Optional& v_threshold_tensor,
                                       std::optional<double> v_reset) {
  // As with lif, a membrane that starts without a value starts at its reset, or at 0 with a soft one.
  NeuronInput input("spike_count", x, {{"v", v}, {"count", count}}, {{"v_threshold", v_threshold, v_threshold_tensor}},
                    {1., false, v_reset, v_reset.value_or(0.), true});
  const Device device(x);
  NeuronForward a{};
  static_cast<NeuronScan&>(a) = input.scan;
  const Tensor v_out = device.allocate(x, input.neuron_shape(), input.state_type());
  const Tensor count_out = device.allocate(x, input.neuron_shape(), input.state_type());
  a.state_out[0] = v_out.mutable_data_ptr();
  a.state_out[1] = count_out.mutable_data_ptr();
  if (a.N > 0) {
    if constexpr (Device::kCuda)
      device.launch("spike_count", [&](void* stream) { return launch_spike_count(a, stream); });
    else
      device.parallel(a.N, a.T, [&](int64_t begin, int64_t end) { cpu::spike_count()(a, begin, end); });
  }
  return {count_out, v_out};
}

template <class Library>
void schemas(Library& m) {
  m.def("spike_count(Tensor x, Tensor? v, Tensor? count, float v_threshold, Tensor? v_threshold_tensor, float? v_reset) -> (Tensor count_out, Tensor v_out)");
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("spike_count", TORCH_BOX(&spike_count<Device>));
}

}  // namespace
}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
