#include "core/bp_stdp.h"

#include <algorithm>

#include "cpu/dispatch.h"
#include "ops/presentations.h"

SNNFAST_CPU_KERNEL(bp_stdp_windows, (const BpStdp&, int64_t t0, int64_t t1, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(bp_stdp_weights, (const BpStdp&, int64_t t0, int64_t t1, int64_t begin, int64_t end))

namespace snnfast {

int launch_bp_stdp(const BpStdp&, void* stream);

namespace {

constexpr const char* kOp = "bp_stdp";

void run_on_cpu(const BpStdp& a) {
  const auto parallel = [](int64_t n, int64_t work, const auto& kernel) {
    torch::stable::parallel_for(0, n, std::max<int64_t>(65536 / std::max<int64_t>(work, 1), 1), kernel);
  };
  for (int64_t t0 = 0; t0 < a.T; t0 += a.span) {
    const int64_t t1 = std::min(t0 + a.span, a.T), steps = t1 - t0;
    parallel(a.B, steps * a.I * (a.passed ? 4 + a.O : 4), [&](int64_t begin, int64_t end) { cpu::bp_stdp_windows()(a, t0, t1, begin, end); });
    parallel(a.O, steps * a.B * a.I, [&](int64_t begin, int64_t end) { cpu::bp_stdp_weights()(a, t0, t1, begin, end); });
  }
}

template <class Device>
Tensor bp_stdp(const Tensor& w, const Tensor& pre, const Tensor& error, double scale, int64_t epsilon, bool each_step, bool return_error) {
  STD_TORCH_CHECK(w.scalar_type() == ScalarType::Float || w.scalar_type() == ScalarType::Double, "bp_stdp: w must be float32 or float64");
  STD_TORCH_CHECK(w.dim() == 2 && w.is_contiguous(), "bp_stdp: w must have shape [O, I] and be contiguous");
  STD_TORCH_CHECK(pre.dim() == 3 && pre.size(2) == w.size(1) && pre.is_contiguous(), "bp_stdp: pre must have shape [T, B, I] and be contiguous");
  check_like(kOp, "pre", pre, w, pre.scalar_type(), {pre.size(0), pre.size(1), pre.size(2)});
  check_like(kOp, "error", error, w, w.scalar_type(), {pre.size(0), pre.size(1), w.size(0)});
  STD_TORCH_CHECK(error.is_contiguous(), "bp_stdp: error must be contiguous");
  STD_TORCH_CHECK(epsilon >= 1, "bp_stdp: epsilon must be at least 1 step");
  const Device device(w);
  BpStdp a{};
  a.T = pre.size(0), a.B = pre.size(1), a.I = w.size(1), a.O = w.size(0);
  a.epsilon = epsilon, a.scale = scale;
  a.span = each_step ? 1 : std::max<int64_t>(a.T, 1);
  a.is_double = w.scalar_type() == ScalarType::Double;
  a.width = static_cast<int32_t>(pre.element_size());
  STD_TORCH_CHECK(is_spike_type(pre.scalar_type()), "bp_stdp: pre must be bool, uint8, float32 or float64");
  a.pre = pre.const_data_ptr();
  a.error = error.const_data_ptr();
  a.w = w.mutable_data_ptr();
  Tensor passed = device.allocate(w, {return_error ? a.T : 0, a.B, a.I}, w.scalar_type());
  a.passed = return_error ? passed.mutable_data_ptr() : nullptr;
  Tensor counts = torch::stable::new_zeros(w, {a.B, a.I}, ScalarType::Int);
  Tensor windows = device.allocate(w, {a.span * a.B, a.I}, w.scalar_type());
  a.counts = counts.mutable_data_ptr();
  a.windows = windows.mutable_data_ptr();
  if (a.T == 0 || a.B == 0 || a.I == 0) return passed;
  if constexpr (Device::kCuda)
    device.launch(kOp, [&](void* stream) { return launch_bp_stdp(a, stream); });
  else
    run_on_cpu(a);
  return passed;
}

template <class Library>
void schemas(Library& m) {
  m.def("bp_stdp_(Tensor(a!) w, Tensor pre, Tensor error, float scale, int epsilon, bool each_step, bool return_error) -> Tensor");
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("bp_stdp_", TORCH_BOX(&bp_stdp<Device>));
}

}  // namespace
}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
