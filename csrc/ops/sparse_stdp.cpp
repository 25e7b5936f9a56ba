#include "core/sparse_stdp.h"

#include "cpu/dispatch.h"
#include "ops/recurrent.h"
#include "ops/scratch.h"
#include "ops/stdp.h"

SNNFAST_CPU_KERNEL(stdp_traces, (const Stdp&, int64_t begin, int64_t end, void* scratch))
SNNFAST_CPU_KERNEL(sparse_stdp_weights, (const SparseStdp&, int64_t begin, int64_t end))
SNNFAST_CPU_KERNEL(sparse_stdp_normalize, (const SparseStdp&, int64_t begin, int64_t end))

#define SNNFAST_SPARSE_STDP_ARGUMENTS(FIELD) \
  FIELD(Changed, w)                          \
  FIELD(Tensor, pre)                         \
  FIELD(Tensor, post)                        \
  FIELD(Tensor, first)                       \
  FIELD(Tensor, targets)                     \
  FIELD(Tensor, incoming_first)              \
  FIELD(Tensor, incoming)                    \
  FIELD(Tensor, sources)                     \
  FIELD(StdpStateArguments, state)           \
  FIELD(PlasticityArguments, rule)           \
  FIELD(double, scale)                       \
  FIELD(bool, each_step)                     \
  FIELD(std::optional<double>, norm)         \
  FIELD(int64_t, begin)                      \
  FIELD(int64_t, end)

namespace snnfast {

int launch_sparse_stdp(const SparseStdp&, void* stream);

namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_SPARSE_STDP_ARGUMENTS)

constexpr const char* kOp = "sparse_stdp_";
constexpr int64_t kStep = 1;

// Reads the synapses by postsynaptic neuron.
void read_incoming(const Arguments& arguments, int64_t count, SparseStdp& a) {
  const Tensor &first = arguments.incoming_first, &incoming = arguments.incoming, &sources = arguments.sources;
  check_tensor(kOp, "incoming_first", first, ScalarType::Long, {a.N_post + 1}, "w", arguments.w.tensor);
  check_tensor(kOp, "incoming", incoming, ScalarType::Int, {count}, "w", arguments.w.tensor);
  check_tensor(kOp, "sources", sources, ScalarType::Int, {count}, "w", arguments.w.tensor);
  check_contiguous(kOp, "incoming_first", first);
  check_contiguous(kOp, "incoming", incoming);
  check_contiguous(kOp, "sources", sources);
  a.incoming_first = first.const_data_ptr<int64_t>();
  a.incoming = incoming.const_data_ptr<int32_t>();
  a.sources = sources.const_data_ptr<int32_t>();
}

// They must be those of the rows. On CUDA the kernels check every index that they use.
void check_incoming(int64_t count, const SparseStdp& a) {
  bool fits = a.incoming_first[0] == 0 && a.incoming_first[a.N_post] == count;
  for (int64_t i = 0; i < a.N_post; i++) fits = fits && a.incoming_first[i] <= a.incoming_first[i + 1];
  // A synapse of another row would be changed by two threads.
  for (int64_t k = 0; fits && k < count; k++) {
    const int64_t q = a.incoming[k], j = a.sources[k];
    fits = j >= 0 && j < a.N_pre && q >= a.synapses.first[j] && q < a.synapses.first[j + 1];
  }
  SNNFAST_CHECK(fits, kOp, ": incoming must be the synapses of first and targets by postsynaptic neuron");
}

template <class Device>
void sparse_stdp(const Arguments& arguments) {
  const Tensor &w = arguments.w.tensor, &pre = arguments.pre, &post = arguments.post;
  check_float32_or_float64(kOp, "w", w);
  const int64_t count = arguments.targets.numel();
  check_shape(kOp, "w", w, {count});
  check_contiguous(kOp, "w", w);
  SNNFAST_CHECK(count < (int64_t{1} << 31), kOp, ": w must have fewer than 2^31 weights, got ", count);
  SNNFAST_CHECK(post.dim() == 3, kOp, ": post must have shape [T, B, N_post], got ", shape_of(post));
  SNNFAST_CHECK(pre.dim() == 3, kOp, ": pre must have shape [T, B, N_pre], got ", shape_of(pre));
  SNNFAST_CHECK(!arguments.state.eligibility.tensor, kOp, ": eligibility must be None");
  const Device device(w);
  SparseStdp a{};
  a.N_pre = pre.size(2), a.N_post = post.size(2);
  a.begin = arguments.begin, a.end = arguments.end;
  SNNFAST_CHECK(0 <= a.begin && a.begin <= a.end && a.end <= a.N_pre, kOp, ": begin and end must be a range of the ",
                a.N_pre, " presynaptic neurons, got ", a.begin, " and ", a.end);
  a.synapses = synapses_of(kOp, w, arguments.first, arguments.targets, &kStep, 1, a.N_pre);
  read_spikes(kOp, arguments, w, Device::kCuda ? 1 : w.scalar_type() == ScalarType::Double ? 8 : 16, a);
  read_incoming(arguments, count, a);
  if constexpr (!Device::kCuda) {
    check_synapses(kOp, a.synapses, a.N_pre, a.N_post);
    check_incoming(count, a);
  }
  if (a.N_post == 0 && a.N_pre == 0) return;
  const int64_t sums = std::max<int64_t>(count, 1);
  if constexpr (Device::kCuda) {
    each_chunk(device, w, a.each_step ? 0 : sums, a,
               [&] { device.launch(kOp, [&](void* stream) { return launch_sparse_stdp(a, stream); }); });
  } else {
    const size_t flags = static_cast<size_t>(std::max(a.N_pre, a.N_post) + 8);
    each_chunk(device, w, sums, a, [&] {
      in_parallel(2 * a.B, a.steps * a.N_pre,
                  [&](int64_t begin, int64_t end) { cpu::stdp_traces()(a, begin, end, thread_scratch(flags)); });
      in_parallel(a.end - a.begin, a.steps * a.B * (count / std::max<int64_t>(a.N_pre, 1) + 1) / 16 + 1,
                  [&](int64_t begin, int64_t end) { cpu::sparse_stdp_weights()(a, a.begin + begin, a.begin + end); });
    });
    if (a.norm > 0)
      in_parallel(a.N_post, count / std::max<int64_t>(a.N_post, 1) + 1,
                  [&](int64_t begin, int64_t end) { cpu::sparse_stdp_normalize()(a, begin, end); });
  }
}

SNNFAST_OPERATOR("sparse_stdp_", sparse_stdp, "()")

}  // namespace
}  // namespace snnfast
