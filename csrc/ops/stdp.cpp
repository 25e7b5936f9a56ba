#include "ops/stdp.h"

#include "cpu/dispatch.h"
#include "ops/scratch.h"

SNNFAST_CPU_KERNEL(stdp_traces, (const Stdp&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(stdp_touched, (const Stdp&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(stdp_weights, (const Stdp&, int64_t begin, int64_t end, void* scratch))

#define SNNFAST_STDP_ARGUMENTS(FIELD) \
  FIELD(Changed, w)                   \
  FIELD(Tensor, pre)                  \
  FIELD(Tensor, post)                 \
  FIELD(StdpStateArguments, state)    \
  FIELD(Optional, reward)             \
  FIELD(PlasticityArguments, rule)    \
  FIELD(double, decay_eligibility)    \
  FIELD(double, scale)                \
  FIELD(bool, each_step)              \
  FIELD(std::optional<double>, norm)

namespace snnfast {

int launch_stdp(const Stdp&, void* stream);

namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_STDP_ARGUMENTS)

constexpr const char* kOp = "stdp_";

template <class Device>
void run_chunk(const Device& device, const Stdp& a) {
  if constexpr (Device::kCuda) {
    device.launch(kOp, [&](void* stream) { return launch_stdp(a, stream); });
  } else {
    const int64_t real = a.is_double ? 8 : 4, rows = 64 / real, blocks = a.padded_post / rows;
    const size_t flag_bytes = static_cast<size_t>(std::max(a.N_pre, a.N_post) + 8);
    const size_t block_bytes = static_cast<size_t>((2 * rows + 3) * a.N_pre * real);
    const auto parallel = [&](int64_t n, int64_t work, auto kernel, size_t bytes) {
      in_parallel(n, work, [&](int64_t begin, int64_t end) { kernel(a, begin, end, thread_scratch(bytes)); });
    };
    parallel(2 * a.B, a.steps * a.N_pre, cpu::stdp_traces(), flag_bytes);
    if (a.each_step && !a.modulated) parallel(a.steps, a.B * a.N_pre / 8, cpu::stdp_touched(), flag_bytes);
    parallel(blocks, a.steps * a.B * a.N_pre, cpu::stdp_weights(), block_bytes);
  }
}

template <class Device>
void stdp(const Arguments& arguments) {
  const Tensor& w = arguments.w.tensor;
  check_weights(kOp, "w", w);
  SNNFAST_CHECK(w.size(1) < (int64_t{1} << 31), kOp, ": w must have fewer than 2^31 columns, got ", w.size(1));
  const Device device(w);
  Stdp a{};
  a.N_pre = w.size(1), a.N_post = w.size(0);
  read_spikes(kOp, arguments, w, Device::kCuda ? 1 : w.scalar_type() == ScalarType::Double ? 8 : 16, a);
  read_reward(kOp, arguments, w, {a.N_post, a.N_pre}, a);
  a.w_stride = a.N_post > 1 ? w.stride(0) : a.N_pre;
  if (a.N_post == 0 && a.N_pre == 0) return;

  each_chunk(device, w, a.each_step ? 0 : a.padded_post * a.N_pre, a, [&] { run_chunk(device, a); });
}

SNNFAST_OPERATOR("stdp_", stdp, "()")

}  // namespace
}  // namespace snnfast
