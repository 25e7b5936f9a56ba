#include "core/bp_stdp.h"

#include <algorithm>

#include "cpu/dispatch.h"
#include "ops/interrupt.h"
#include "ops/presentations.h"

SNNFAST_CPU_KERNEL(bp_stdp_windows, (const BpStdp&, int64_t t0, int64_t t1, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(bp_stdp_weights, (const BpStdp&, int64_t t0, int64_t t1, int64_t begin, int64_t end))

#define SNNFAST_BP_STDP_ARGUMENTS(FIELD) \
  FIELD(Changed, w)                      \
  FIELD(Tensor, pre)                     \
  FIELD(Tensor, error)                   \
  FIELD(double, scale)                   \
  FIELD(int64_t, epsilon)                \
  FIELD(bool, each_step)                 \
  FIELD(bool, return_error)

namespace snnfast {

int launch_bp_stdp(const BpStdp&, void* stream);

namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_BP_STDP_ARGUMENTS)

constexpr const char* kOp = "bp_stdp_";

void run_on_cpu(const BpStdp& a) {
  const auto parallel = [](int64_t n, int64_t work, const auto& kernel) {
    parallel_for(n, std::max<int64_t>(65536 / std::max<int64_t>(work, 1), 1), kernel);
  };
  InterruptibleCall call;
  for (int64_t t0 = 0; t0 < a.T && !call.interrupted(); t0 += a.span) {
    const int64_t t1 = std::min(t0 + a.span, a.T), steps = t1 - t0;
    parallel(a.B, steps * a.I * (a.passed ? 4 + a.O : 4),
             [&](int64_t begin, int64_t end) { cpu::bp_stdp_windows()(a, t0, t1, begin, end); });
    parallel(a.O, steps * a.B * a.I,
             [&](int64_t begin, int64_t end) { cpu::bp_stdp_weights()(a, t0, t1, begin, end); });
  }
}

template <class Device>
Tensor bp_stdp(const Arguments& arguments) {
  const Tensor &w = arguments.w.tensor, &pre = arguments.pre, &error = arguments.error;
  check_contiguous_weights(kOp, "w", w);
  SNNFAST_CHECK(pre.dim() == 3, kOp, ": pre must have shape [T, B, I], got ", shape_of(pre));
  check_like(kOp, "pre", pre, w, pre.scalar_type(), {pre.size(0), pre.size(1), w.size(1)});
  check_like(kOp, "error", error, w, w.scalar_type(), {pre.size(0), pre.size(1), w.size(0)});
  SNNFAST_CHECK(is_spike_type(pre.scalar_type()), kOp, ": pre must be bool, uint8, float32 or float64, got ",
                text_of(pre.scalar_type()));
  check_contiguous(kOp, "pre", pre);
  check_contiguous(kOp, "error", error);
  SNNFAST_CHECK(arguments.epsilon >= 1, kOp, ": epsilon must be at least 1 step, got ", arguments.epsilon);
  const Device device(w);
  BpStdp a{};
  a.T = pre.size(0), a.B = pre.size(1), a.I = w.size(1), a.O = w.size(0);
  a.epsilon = arguments.epsilon, a.scale = arguments.scale;
  a.span = arguments.each_step ? 1 : a.T;
  a.is_double = w.scalar_type() == ScalarType::Double;
  a.width = static_cast<int32_t>(pre.element_size());
  a.pre = pre.const_data_ptr();
  a.error = error.const_data_ptr();
  a.w = w.mutable_data_ptr();
  Tensor passed = device.allocate(w, {arguments.return_error ? a.T : 0, a.B, a.I}, w.scalar_type());
  if (a.T == 0 || a.B == 0 || a.I == 0) return passed;
  a.passed = arguments.return_error ? passed.mutable_data_ptr() : nullptr;
  Tensor counts = zeros(w, {a.B, a.I}, ScalarType::Int);
  Tensor windows = device.allocate(w, {a.span * a.B, a.I}, w.scalar_type());
  a.counts = counts.mutable_data_ptr();
  a.windows = windows.mutable_data_ptr();
  if constexpr (Device::kCuda)
    device.launch(kOp, [&](void* stream) { return launch_bp_stdp(a, stream); });
  else
    run_on_cpu(a);
  return passed;
}

SNNFAST_OPERATOR("bp_stdp_", bp_stdp, "Tensor passed")

}  // namespace
}  // namespace snnfast
