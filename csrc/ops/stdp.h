// Plasticity of the weights between two layers: what the operators of dense and of sparse connections share.
#pragma once
#include <algorithm>

#include "core/arena.h"
#include "core/stdp.h"
#include "ops/interrupt.h"
#include "ops/plasticity.h"
#include "ops/weights.h"

#define SNNFAST_STDP_STATE_ARGUMENTS(FIELD) \
  FIELD(Changed, trace_pre)                 \
  FIELD(Changed, trace_pre2)                \
  FIELD(Changed, trace_post)                \
  FIELD(Changed, trace_post2)               \
  FIELD(OptionalChanged, eligibility)

namespace snnfast {

SNNFAST_ARGUMENTS(StdpStateArguments, SNNFAST_STDP_STATE_ARGUMENTS)

inline StridedSpikes spikes_of(const char* op, const char* name, const Tensor& t, const Tensor& w,
                               const std::vector<int64_t>& shape) {
  const ScalarType type = t.scalar_type();
  const bool floating = type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16 ||
                        type == ScalarType::Half;
  SNNFAST_CHECK(floating || type == ScalarType::Bool || type == ScalarType::Byte, op, ": ", name,
                " must be bool, uint8, float32, float64, bfloat16 or float16, got ", text_of(type));
  check_like(op, name, t, w, type, shape);
  return {t.const_data_ptr(), t.stride(0), t.stride(1), t.stride(2), static_cast<int32_t>(t.element_size()), floating};
}

inline void* stdp_state(const char* op, const char* name, const Tensor& t, const Tensor& w,
                        const std::vector<int64_t>& shape) {
  check_like(op, name, t, w, w.scalar_type(), shape);
  check_contiguous(op, name, t);
  return t.mutable_data_ptr();
}

// Reads spikes [T, B, N] and traces, for weights `w` between N_pre and N_post neurons, which are set before. rows:
// number of neurons of a word of fired_post.
template <class Arguments>
void read_spikes(const char* op, const Arguments& arguments, const Tensor& w, int64_t rows, Stdp& a) {
  const Tensor& pre = arguments.pre;
  SNNFAST_CHECK(pre.dim() == 3, op, ": pre must have shape [T, B, N_pre], got ", shape_of(pre));
  a.rule = rule_of(op, arguments.rule);
  a.scale = arguments.scale, a.norm = arguments.norm.value_or(0), a.each_step = arguments.each_step;
  a.is_double = w.scalar_type() == ScalarType::Double;
  a.T = pre.size(0), a.B = pre.size(1);
  a.padded_post = (a.N_post + rows - 1) / rows * rows;
  a.w = w.mutable_data_ptr();
  a.pre = spikes_of(op, "pre", pre, w, {a.T, a.B, a.N_pre});
  a.post = spikes_of(op, "post", arguments.post, w, {a.T, a.B, a.N_post});
  const auto& state = arguments.state;
  a.trace_pre = stdp_state(op, "trace_pre", state.trace_pre.tensor, w, {a.B, a.N_pre});
  a.trace_pre2 = stdp_state(op, "trace_pre2", state.trace_pre2.tensor, w, {a.B, a.N_pre});
  a.trace_post = stdp_state(op, "trace_post", state.trace_post.tensor, w, {a.B, a.N_post});
  a.trace_post2 = stdp_state(op, "trace_post2", state.trace_post2.tensor, w, {a.B, a.N_post});
}

// Reads reward and eligibility, of all samples of this shape, where the rule is modulated; T and B are set before.
template <class Arguments>
void read_reward(const char* op, const Arguments& arguments, const Tensor& w, std::vector<int64_t> shape, Stdp& a) {
  const Optional &eligibility = arguments.state.eligibility.tensor, &reward = arguments.reward;
  SNNFAST_CHECK(eligibility.has_value() == reward.has_value(), op,
                ": eligibility and reward must be given together, got only ", reward ? "reward" : "eligibility");
  a.decay_eligibility = arguments.decay_eligibility, a.modulated = reward.has_value();
  if (!a.modulated) return;
  shape.insert(shape.begin(), a.B);
  a.eligibility = stdp_state(op, "eligibility", *eligibility, w, shape);
  a.reward = stdp_state(op, "reward", *reward, w, {a.T, a.B});
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

// Memory for the traces of a chunk of steps, which the L2 cache holds beside the weights: 40 MiB on an A100, 50 on an
// H100.
constexpr int64_t kChunkBytesCpu = int64_t{1} << 20;
#ifdef SNNFAST_CUDA_EMULATION
constexpr int64_t kChunkBytesCuda = int64_t{1} << 16;  // so that small tests run several chunks
#else
constexpr int64_t kChunkBytesCuda = int64_t{16} << 20;
#endif

// Calls run() for chunks of steps, whose memory is laid out, with at most so many bytes if that is more than a step.
// sums: numbers of `grown` and of `lost`, 0 if they are not needed.
template <class Device, class Run>
void each_chunk(const Device& device, const Tensor& w, int64_t sums, Stdp& a, const Run& run) {
  Arena step(nullptr);
  lay_out<Device>(step, a, 1);
  const int64_t budget = Device::kCuda ? kChunkBytesCuda : kChunkBytesCpu;
  const int64_t chunk = std::clamp<int64_t>(budget / std::max<int64_t>(step.used(), 1), 1, std::max<int64_t>(a.T, 1));
  const auto lay_out_all = [&](Arena arena) {
    lay_out<Device>(arena, a, chunk);
    const int64_t bytes = sums * (a.is_double ? 8 : 4);
    if (sums) a.grown = arena.take<char>(bytes), a.lost = arena.take<char>(bytes);
    return arena.used();
  };
  const Tensor memory = device.allocate(w, {lay_out_all(Arena(nullptr)) + 64}, ScalarType::Byte);
  lay_out_all(Arena(aligned(static_cast<char*>(memory.mutable_data_ptr()))));
  InterruptibleCall call;
  for (a.t0 = 0;; a.t0 += chunk) {
    a.steps = std::min(chunk, a.T - a.t0);
    a.last = a.t0 + a.steps == a.T;
    run();
    if (a.last || call.interrupted()) return;
  }
}

}  // namespace snnfast
