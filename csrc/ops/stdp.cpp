#include "core/stdp.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "core/stdp_sequence.h"
#include "cpu/dispatch.h"
#include "ops/device.h"
#include "ops/scratch.h"

SNNFAST_CPU_KERNEL(stdp_traces, (const Stdp&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(stdp_touched, (const Stdp&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(stdp_weights, (const Stdp&, int64_t begin, int64_t end, void* scratch))

namespace snnfast {

int launch_stdp(const Stdp&, void* stream);

namespace {

// Memory for the traces of a chunk of steps; on the CPU what the second-level cache holds.
constexpr int64_t kChunkBytesCpu = int64_t{1} << 20;
#ifdef SNNFAST_CUDA_EMULATION
constexpr int64_t kChunkBytesCuda = int64_t{1} << 16;  // so that small tests run several chunks
#else
constexpr int64_t kChunkBytesCuda = int64_t{64} << 20;
#endif

SpikeTrain spike_train(const Tensor& t, const char* name) {
  const ScalarType type = t.scalar_type();
  const bool floating = type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16 || type == ScalarType::Half;
  STD_TORCH_CHECK(floating || type == ScalarType::Bool || type == ScalarType::Byte, "stdp: ", name, " must be bool, uint8 or floating point");
  return {t.const_data_ptr(), t.stride(0), t.stride(1), t.stride(2), static_cast<int32_t>(t.element_size()), floating};
}

// Contiguous memory of the call, given out in pieces of 64-byte alignment; the first pass only counts.
class Pieces {
 public:
  template <class P>
  void take(P*& pointer, bool wanted, int64_t bytes) {
    pointer = wanted && base_ ? static_cast<P*>(static_cast<void*>(base_ + size_)) : nullptr;
    if (wanted) size_ += (bytes + 63) / 64 * 64;
  }
  int64_t size() const { return size_; }
  void start(void* base) {
    base_ = static_cast<char*>(base);
    size_ = 0;
  }

 private:
  char* base_ = nullptr;
  int64_t size_ = 0;
};

template <class Device>
void lay_out(Pieces& pieces, Stdp& a, int64_t steps, PlasticityKind kind) {
  const int64_t real = a.is_double ? 8 : 4, rows = 64 / real, pre = steps * a.B * a.N_pre, post = steps * a.B * a.padded_post;
  const bool triplet = kind == PlasticityKind::triplet, cpu = !Device::kCuda;
  pieces.take(a.x_pre, true, pre * real);
  pieces.take(a.x_pre2, triplet, pre * real);
  pieces.take(a.x_post, true, post * real);
  pieces.take(a.x_post2, triplet, post * real);
  pieces.take(a.fired, cpu, pre * 4);
  pieces.take(a.n_fired, cpu, steps * a.B * 4);
  pieces.take(a.touched, cpu, steps * a.N_pre * 4);
  pieces.take(a.n_touched, cpu, steps * 4);
  pieces.take(a.fired_post, cpu, steps * a.B * (a.padded_post / rows) * 2);
  pieces.take(a.spikes_pre, !cpu, pre);
  pieces.take(a.spikes_post, !cpu, post);
}

template <class Device>
void run_chunk(const Device& device, const Stdp& a) {
  if constexpr (Device::kCuda) {
    device.launch("stdp", [&](void* stream) { return launch_stdp(a, stream); });
  } else {
    const int64_t real = a.is_double ? 8 : 4, rows = 64 / real, blocks = a.padded_post / rows;
    const size_t flag_bytes = static_cast<size_t>(std::max(a.N_pre, a.N_post) + 8);
    const size_t block_bytes = static_cast<size_t>((2 * rows + 3) * a.N_pre * real);
    // kernel(a, begin, end, scratch) over [0, n), with about `work` operations an item.
    const auto parallel = [&](int64_t n, int64_t work, auto kernel, size_t bytes) {
      const int64_t grain = std::max<int64_t>(32768 / std::max<int64_t>(work, 1), 1);
      torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) { kernel(a, begin, end, thread_scratch(bytes)); });
    };
    parallel(2 * a.B, a.steps * a.N_pre, cpu::stdp_traces(), flag_bytes);
    if (a.each_step && !a.eligibility) parallel(a.steps, a.B * a.N_pre / 8, cpu::stdp_touched(), flag_bytes);
    parallel(blocks, a.steps * a.B * a.N_pre, cpu::stdp_weights(), block_bytes);
  }
}

template <class Device>
void stdp(Tensor w, const Tensor& pre, const Tensor& post, Tensor trace_pre, Tensor trace_pre2, Tensor trace_post, Tensor trace_post2,
          std::optional<Tensor> eligibility, std::optional<Tensor> reward, std::vector<double> constants, double decay_eligibility, double scale,
          bool each_step, double norm) {
  STD_TORCH_CHECK(w.scalar_type() == ScalarType::Float || w.scalar_type() == ScalarType::Double, "stdp: w must be float32 or float64");
  STD_TORCH_CHECK(w.dim() == 2 && (w.stride(1) == 1 || w.size(1) <= 1) && (w.stride(0) >= w.size(1) || w.size(0) <= 1),
                  "stdp: w must have shape [N_post, N_pre] and contiguous rows");
  STD_TORCH_CHECK(constants.size() == PlasticityConstants::kCount, "stdp: there must be ", PlasticityConstants::kCount, " constants, got ", constants.size());
  STD_TORCH_CHECK(constants[0] >= 0 && constants[0] < static_cast<int>(PlasticityKind::count), "stdp: there is no kind of rule number ", constants[0]);
  const int64_t N_post = w.size(0), N_pre = w.size(1);
  STD_TORCH_CHECK(N_pre < (int64_t{1} << 31), "stdp: w has more than 2^31 columns");
  STD_TORCH_CHECK(pre.dim() == 3 && pre.size(2) == N_pre, "stdp: pre must have shape [T, B, N_pre]");
  const int64_t T = pre.size(0), B = pre.size(1);
  STD_TORCH_CHECK(post.dim() == 3 && post.size(0) == T && post.size(1) == B && post.size(2) == N_post, "stdp: post must have shape [T, B, N_post]");
  const auto same_device = [&](const Tensor& t, const char* name) {
    STD_TORCH_CHECK(t.is_cuda() == w.is_cuda() && t.get_device_index() == w.get_device_index(), "stdp: ", name, " must be on the device of w");
  };
  const auto state = [&](const Tensor& t, int64_t count, const char* name) {
    STD_TORCH_CHECK(t.scalar_type() == w.scalar_type() && t.is_contiguous() && t.numel() == count, "stdp: ", name,
                    " must be contiguous, of the dtype of w and fit its shape");
    same_device(t, name);
    return t.mutable_data_ptr();
  };
  same_device(pre, "pre");
  same_device(post, "post");
  STD_TORCH_CHECK(eligibility.has_value() == reward.has_value(), "stdp: eligibility and reward go together");
  const Device device(w);
  const bool is_double = w.scalar_type() == ScalarType::Double;
  const int64_t rows = Device::kCuda ? 1 : is_double ? 8 : 16;
  Stdp a{};
  a.constants = constants.data();
  a.decay_eligibility = decay_eligibility, a.scale = scale, a.norm = norm;
  a.each_step = each_step, a.is_double = is_double;
  a.T = T, a.B = B, a.N_pre = N_pre, a.N_post = N_post;
  a.w_stride = N_post > 1 ? w.stride(0) : N_pre;
  a.w = w.mutable_data_ptr();
  a.pre = spike_train(pre, "pre"), a.post = spike_train(post, "post");
  a.trace_pre = state(trace_pre, B * N_pre, "trace_pre"), a.trace_pre2 = state(trace_pre2, B * N_pre, "trace_pre2");
  a.trace_post = state(trace_post, B * N_post, "trace_post"), a.trace_post2 = state(trace_post2, B * N_post, "trace_post2");
  a.eligibility = eligibility ? state(*eligibility, B * N_post * N_pre, "eligibility") : nullptr;
  a.reward = reward ? state(*reward, T * B, "reward") : nullptr;
  a.padded_post = (N_post + rows - 1) / rows * rows;
  if (N_post == 0 && N_pre == 0) return;

  const PlasticityKind kind = plasticity<double>(a.constants).kind;
  Pieces pieces;
  lay_out<Device>(pieces, a, 1, kind);
  const int64_t budget = Device::kCuda ? kChunkBytesCuda : kChunkBytesCpu;
  const int64_t chunk = std::clamp<int64_t>(budget / std::max<int64_t>(pieces.size(), 1), 1, std::max<int64_t>(T, 1));
  pieces.start(nullptr);
  const auto lay_out_all = [&] {
    const int64_t sums = each_step ? 0 : a.padded_post * N_pre * (is_double ? 8 : 4);
    lay_out<Device>(pieces, a, chunk, kind);
    pieces.take(a.grown, !each_step, sums);
    pieces.take(a.lost, !each_step, sums);
  };
  lay_out_all();
  const Tensor memory = device.allocate(w, {pieces.size() + 64}, ScalarType::Byte);
  char* base = static_cast<char*>(memory.mutable_data_ptr());
  pieces.start(base + (64 - reinterpret_cast<uintptr_t>(base) % 64) % 64);
  lay_out_all();
  for (a.t0 = 0;; a.t0 += chunk) {
    a.steps = std::min(chunk, T - a.t0);
    a.last = a.t0 + a.steps == T;
    run_chunk(device, a);
    if (a.last) return;
  }
}

template <class Library>
void schemas(Library& m) {
  m.def(
      "stdp(Tensor(a!) w, Tensor pre, Tensor post, Tensor(b!) trace_pre, Tensor(c!) trace_pre2, Tensor(d!) trace_post, Tensor(e!) trace_post2, "
      "Tensor(f!)? eligibility, Tensor? reward, float[] constants, float decay_eligibility, float scale, bool each_step, float norm) -> ()");
}

template <class Device, class Library>
void implementations(Library& m) {
  m.impl("stdp", TORCH_BOX(&stdp<Device>));
}

}  // namespace
}  // namespace snnfast

SNNFAST_REGISTER(snnfast::schemas, snnfast::implementations)
