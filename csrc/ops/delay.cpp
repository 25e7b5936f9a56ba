#include "core/delay.h"

#include "cpu/dispatch.h"
#include "ops/neuron.h"
#include "ops/scratch.h"

SNNFAST_CPU_KERNEL(delay_forward, (const DelayForward&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(delay_backward, (const DelayBackward&, int64_t begin, int64_t end, void* scratch))

namespace snnfast {

int launch_delay_forward(const DelayForward&, void* stream);
int launch_delay_backward(const DelayBackward&, void* stream);

namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_DELAY_ARGUMENTS)

DelayScan scan_of(const Arguments& arguments, NeuronTensors& tensors) {
  const Tensor& x = arguments.x;
  DelayScan a{};
  a.T = x.size(0);
  a.N = tensors.count();
  a.x = tensors.rows(x, "x");
  a.past = tensors.past(arguments.past, &a.P);
  a.d = tensors.param(arguments.d, "d");
  SNNFAST_CHECK(arguments.sigma >= 0, "delay: sigma must be at least 0, got ", arguments.sigma);
  a.radius = 1. + arguments.sigma;
  return a;
}

template <class Device>
Tensor forward(const Arguments& arguments) {
  const Tensor& x = arguments.x;
  NeuronTensors tensors("delay", x);
  const Device device(x);
  DelayForward a{};
  static_cast<DelayScan&>(a) = scan_of(arguments, tensors);
  const Tensor y = device.allocate(x, sizes_of(x), x.scalar_type());
  a.y = y.mutable_data_ptr();
  if (a.N > 0 && a.T > 0) {
    if constexpr (Device::kCuda)
      device.launch("delay", [&](void* stream) { return launch_delay_forward(a, stream); });
    else
      device.parallel(a.N, 2 * a.T, [&](int64_t begin, int64_t end) {
        cpu::delay_forward()(a, begin, end, thread_scratch(delay_scratch(a)));
      });
  }
  return y;
}

// Gradients of x, d and past; empty where not needed.
template <class Device>
std::tuple<Tensor, Tensor, Tensor> backward(const Arguments& arguments, Tensor grad_y, bool x_needed, bool d_needed,
                                            bool past_needed) {
  const Tensor& x = arguments.x;
  NeuronTensors tensors("delay", x);
  const Device device(x);
  DelayBackward a{};
  static_cast<DelayScan&>(a) = scan_of(arguments, tensors);
  SNNFAST_CHECK(!past_needed || arguments.past, "delay: past_needed must be false without past, got true");
  a.grad_y = tensors.optional_rows(grad_y, "grad_y", x.scalar_type(), Device::kCuda);
  const auto output = [&](bool wanted, const std::vector<int64_t>& shape, ScalarType type, void*& pointer) {
    const Tensor t = wanted ? device.allocate(x, shape, type) : tensors.nothing();
    pointer = wanted ? t.mutable_data_ptr() : nullptr;
    return t;
  };
  const Tensor grad_x = output(x_needed, sizes_of(x), x.scalar_type(), a.grad_x);
  const Tensor grad_d = output(d_needed, tensors.shape(), tensors.state_type(), a.grad_d);
  const Tensor grad_past = output(past_needed, past_needed ? sizes_of(*arguments.past) : std::vector<int64_t>{},
                                  x.scalar_type(), a.grad_past);
  if (a.N > 0) {
    if constexpr (Device::kCuda)
      device.launch("delay", [&](void* stream) { return launch_delay_backward(a, stream); });
    else
      device.parallel(a.N, 4 * a.T, [&](int64_t begin, int64_t end) {
        cpu::delay_backward()(a, begin, end, thread_scratch(delay_scratch(a)));
      });
  }
  return {grad_x, grad_d, grad_past};
}

SNNFAST_OPERATOR("delay_forward", forward, "Tensor")
SNNFAST_OPERATOR("delay_backward", backward, "(Tensor grad_x, Tensor grad_d, Tensor grad_past)",
                 "Tensor grad_y, bool x_needed, bool d_needed, bool past_needed")

}  // namespace
}  // namespace snnfast
