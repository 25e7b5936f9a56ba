#include "core/stdp.h"

#include <algorithm>

#include "core/arena.h"
#include "cpu/dispatch.h"
#include "ops/plasticity.h"
#include "ops/scratch.h"
#include "ops/weights.h"

SNNFAST_CPU_KERNEL(stdp_traces, (const Stdp&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(stdp_touched, (const Stdp&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(stdp_weights, (const Stdp&, int64_t begin, int64_t end, void* scratch))

#define SNNFAST_STDP_STATE_ARGUMENTS(FIELD) \
  FIELD(Changed, trace_pre)                 \
  FIELD(Changed, trace_pre2)                \
  FIELD(Changed, trace_post)                \
  FIELD(Changed, trace_post2)               \
  FIELD(OptionalChanged, eligibility)

#define SNNFAST_STDP_ARGUMENTS(FIELD) \
  FIELD(Changed, w)                   \
  FIELD(Tensor, pre)                  \
  FIELD(Tensor, post)                 \
  FIELD(StateArguments, state)        \
  FIELD(Optional, reward)             \
  FIELD(PlasticityArguments, rule)    \
  FIELD(double, decay_eligibility)    \
  FIELD(double, scale)                \
  FIELD(bool, each_step)              \
  FIELD(std::optional<double>, norm)

namespace snnfast {

int launch_stdp(const Stdp&, void* stream);

namespace {

SNNFAST_ARGUMENTS(StateArguments, SNNFAST_STDP_STATE_ARGUMENTS)
SNNFAST_ARGUMENTS(Arguments, SNNFAST_STDP_ARGUMENTS)

constexpr const char* kOp = "stdp_";

// Memory for the traces of a chunk of steps, which the L2 cache holds beside the weights: 40 MiB on an A100, 50 on an
// H100.
constexpr int64_t kChunkBytesCpu = int64_t{1} << 20;
#ifdef SNNFAST_CUDA_EMULATION
constexpr int64_t kChunkBytesCuda = int64_t{1} << 16;  // so that small tests run several chunks
#else
constexpr int64_t kChunkBytesCuda = int64_t{16} << 20;
#endif

StridedSpikes spikes_of(const char* name, const Tensor& t, const Tensor& w, const std::vector<int64_t>& shape) {
  const ScalarType type = t.scalar_type();
  const bool floating = type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16 ||
                        type == ScalarType::Half;
  SNNFAST_CHECK(floating || type == ScalarType::Bool || type == ScalarType::Byte, kOp, ": ", name,
                " must be bool, uint8, float32, float64, bfloat16 or float16, got ", text_of(type));
  check_like(kOp, name, t, w, type, shape);
  return {t.const_data_ptr(), t.stride(0), t.stride(1), t.stride(2), static_cast<int32_t>(t.element_size()), floating};
}

// Memory for the traces and spikes of `steps` steps.
template <class Device>
void lay_out(Arena& arena, Stdp& a, int64_t steps) {
  const int64_t real = a.is_double ? 8 : 4, rows = 64 / real, pre = steps * a.B * a.N_pre,
                post = steps * a.B * a.padded_post;
  const bool triplet = a.rule.kind == PlasticityKind::triplet;
  a.x_pre = arena.take<char>(pre * real);
  a.x_post = arena.take<char>(post * real);
  a.x_pre2 = triplet ? arena.take<char>(pre * real) : nullptr;
  a.x_post2 = triplet ? arena.take<char>(post * real) : nullptr;
  if constexpr (Device::kCuda) {
    a.spikes_pre = arena.take<uint8_t>(pre);
    a.spikes_post = arena.take<uint8_t>(post);
  } else {
    a.fired = arena.take<int32_t>(pre);
    a.n_fired = arena.take<int32_t>(steps * a.B);
    a.touched = arena.take<int32_t>(steps * a.N_pre);
    a.n_touched = arena.take<int32_t>(steps);
    a.fired_post = arena.take<uint16_t>(steps * a.B * (a.padded_post / rows));
  }
}

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
  const Tensor &w = arguments.w.tensor, &pre = arguments.pre;
  check_weights(kOp, "w", w);
  SNNFAST_CHECK(w.size(1) < (int64_t{1} << 31), kOp, ": w must have fewer than 2^31 columns, got ", w.size(1));
  SNNFAST_CHECK(pre.dim() == 3, kOp, ": pre must have shape [T, B, N_pre], got ", shape_of(pre));
  SNNFAST_CHECK(arguments.state.eligibility.tensor.has_value() == arguments.reward.has_value(), kOp,
                ": eligibility and reward must be given together, got only ",
                arguments.reward ? "reward" : "eligibility");
  const Device device(w);
  Stdp a{};
  a.rule = rule_of(kOp, arguments.rule);
  a.decay_eligibility = arguments.decay_eligibility, a.scale = arguments.scale, a.norm = arguments.norm.value_or(0);
  a.each_step = arguments.each_step, a.modulated = arguments.reward.has_value();
  a.is_double = w.scalar_type() == ScalarType::Double;
  a.T = pre.size(0), a.B = pre.size(1), a.N_pre = w.size(1), a.N_post = w.size(0);
  a.w_stride = a.N_post > 1 ? w.stride(0) : a.N_pre;
  a.w = w.mutable_data_ptr();
  a.pre = spikes_of("pre", pre, w, {a.T, a.B, a.N_pre}),
  a.post = spikes_of("post", arguments.post, w, {a.T, a.B, a.N_post});
  const auto state = [&](const char* name, const Tensor& t, const std::vector<int64_t>& shape) {
    check_like(kOp, name, t, w, w.scalar_type(), shape);
    check_contiguous(kOp, name, t);
    return t.mutable_data_ptr();
  };
  a.trace_pre = state("trace_pre", arguments.state.trace_pre.tensor, {a.B, a.N_pre});
  a.trace_pre2 = state("trace_pre2", arguments.state.trace_pre2.tensor, {a.B, a.N_pre});
  a.trace_post = state("trace_post", arguments.state.trace_post.tensor, {a.B, a.N_post});
  a.trace_post2 = state("trace_post2", arguments.state.trace_post2.tensor, {a.B, a.N_post});
  if (a.modulated) {
    a.eligibility = state("eligibility", *arguments.state.eligibility.tensor, {a.B, a.N_post, a.N_pre});
    a.reward = state("reward", *arguments.reward, {a.T, a.B});
  }
  const int64_t rows = Device::kCuda ? 1 : a.is_double ? 8 : 16;
  a.padded_post = (a.N_post + rows - 1) / rows * rows;
  if (a.N_post == 0 && a.N_pre == 0) return;

  Arena step(nullptr);
  lay_out<Device>(step, a, 1);
  const int64_t budget = Device::kCuda ? kChunkBytesCuda : kChunkBytesCpu;
  const int64_t chunk = std::clamp<int64_t>(budget / std::max<int64_t>(step.used(), 1), 1, std::max<int64_t>(a.T, 1));
  const auto lay_out_all = [&](Arena arena) {
    lay_out<Device>(arena, a, chunk);
    if (!a.each_step) {
      const int64_t bytes = a.padded_post * a.N_pre * (a.is_double ? 8 : 4);
      a.grown = arena.take<char>(bytes);
      a.lost = arena.take<char>(bytes);
    }
    return arena.used();
  };
  const Tensor memory = device.allocate(w, {lay_out_all(Arena(nullptr)) + 64}, ScalarType::Byte);
  lay_out_all(Arena(aligned(static_cast<char*>(memory.mutable_data_ptr()))));
  for (a.t0 = 0;; a.t0 += chunk) {
    a.steps = std::min(chunk, a.T - a.t0);
    a.last = a.t0 + a.steps == a.T;
    run_chunk(device, a);
    if (a.last) return;
  }
}

SNNFAST_OPERATOR("stdp_", stdp, "()")

}  // namespace
}  // namespace snnfast
