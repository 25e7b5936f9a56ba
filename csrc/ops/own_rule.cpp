// Operator of all plasticity rules that are compiled at run time, whose argument `kernel` names a library that
// load_own_kernel has loaded. It changes w and eligibility in place. With incoming_first, incoming and sources of
// sparse_stdp_ these are of synapses, of which those from the presynaptic neurons [begin, end) learn.
#include <algorithm>
#include <utility>

#include "ops/interrupt.h"
#include "ops/own_library.h"
#include "ops/weights.h"

#define SNNFAST_OWN_RULE_ARGUMENTS(FIELD) \
  FIELD(Changed, w)                       \
  FIELD(std::string, kernel)              \
  FIELD(Tensor, s_pre)                    \
  FIELD(Tensor, x_pre)                    \
  FIELD(Tensor, x_pre2)                   \
  FIELD(Tensor, s_post)                   \
  FIELD(Tensor, x_post)                   \
  FIELD(Tensor, x_post2)                  \
  FIELD(Tensor, reward)                   \
  FIELD(std::vector<Tensor>, signals)     \
  FIELD(OptionalChanged, eligibility)     \
  FIELD(bool, each_step)                  \
  FIELD(double, decay_eligibility)        \
  FIELD(double, scale)                    \
  FIELD(double, w_min)                    \
  FIELD(double, w_max)                    \
  FIELD(Optional, incoming_first)         \
  FIELD(Optional, incoming)               \
  FIELD(Optional, sources)                \
  FIELD(int64_t, begin)                   \
  FIELD(int64_t, end)

namespace snnfast {
namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_OWN_RULE_ARGUMENTS)

constexpr const char* kOp = "own_rule_";
constexpr int64_t kFewest = int64_t{1} << 18;  // evaluations of the rule a thread
constexpr int64_t kRows = 128;                 // of neurons between two looks for Ctrl-C

// Synapses by postsynaptic neuron, as in SparseStdp; first: null, weights are a matrix.
struct IncomingSynapses {
  const int64_t* first;
  const int32_t *synapses, *sources;
  int64_t count, begin, end;
};

IncomingSynapses read_incoming(const Arguments& arguments, int64_t N_pre, int64_t N_post) {
  if (!arguments.incoming_first) return {};
  const Tensor& w = arguments.w.tensor;
  SNNFAST_CHECK(arguments.incoming && arguments.sources, kOp, ": incoming_first needs incoming and sources");
  const auto check = [&](const char* name, const Tensor& t, ScalarType type, int64_t size) {
    check_tensor(kOp, name, t, type, {size}, "w", w);
    check_contiguous(kOp, name, t);
  };
  check("incoming_first", *arguments.incoming_first, ScalarType::Long, N_post + 1);
  check("incoming", *arguments.incoming, ScalarType::Int, w.numel());
  check("sources", *arguments.sources, ScalarType::Int, w.numel());
  const IncomingSynapses in{arguments.incoming_first->const_data_ptr<int64_t>(),
                            arguments.incoming->const_data_ptr<int32_t>(),
                            arguments.sources->const_data_ptr<int32_t>(),
                            w.numel(),
                            arguments.begin,
                            arguments.end};
  bool fits = in.first[0] == 0 && in.first[N_post] == in.count;
  for (int64_t i = 0; i < N_post; i++) fits = fits && in.first[i] <= in.first[i + 1];
  for (int64_t k = 0; fits && k < in.count; k++)
    fits = in.synapses[k] >= 0 && in.synapses[k] < in.count && in.sources[k] >= 0 && in.sources[k] < N_pre;
  SNNFAST_CHECK(fits, kOp, ": incoming must be synapses by postsynaptic neuron, from presynaptic neurons");
  return in;
}

// Runs the synapses of the postsynaptic neurons [begin, end): each neuron as a layer of one, whose values are brought
// together.
template <class C>
void run_synapses(const OwnRule& rule, const OwnRuleArguments& a, const IncomingSynapses& in, int64_t begin,
                  int64_t end) {
  const int64_t samples = a.T * a.B;
  std::vector<int64_t> synapses, sources;
  std::vector<C> memory;
  std::vector<const void*> signals(static_cast<size_t>(rule.num_signals));
  for (int64_t i = begin; i < end; i++) {
    synapses.clear(), sources.clear();
    for (int64_t k = in.first[i]; k < in.first[i + 1]; k++) {
      if (in.sources[k] < in.begin || in.sources[k] >= in.end) continue;
      synapses.push_back(in.synapses[k]), sources.push_back(in.sources[k]);
    }
    const size_t count = synapses.size();
    memory.resize(static_cast<size_t>(3 + rule.num_signals) * static_cast<size_t>(samples) * (count + 1) +
                  static_cast<size_t>(a.B + 1) * count);
    C* next = memory.data();
    const auto take = [&](size_t size) { return std::exchange(next, next + size); };
    const auto of_pre = [&](const void* from) {
      C* to = take(static_cast<size_t>(samples) * count);
      for (int64_t k = 0; k < samples; k++)
        for (size_t m = 0; m < count; m++)
          to[static_cast<size_t>(k) * count + m] = static_cast<const C*>(from)[k * a.N_pre + sources[m]];
      return to;
    };
    const auto of_post = [&](const void* from) {
      C* to = take(static_cast<size_t>(samples));
      for (int64_t k = 0; k < samples; k++) to[k] = static_cast<const C*>(from)[k * a.N_post + i];
      return to;
    };
    OwnRuleArguments one = a;
    one.N_pre = static_cast<int64_t>(count), one.N_post = 1;
    one.s_pre = of_pre(a.s_pre), one.x_pre = of_pre(a.x_pre), one.x_pre2 = of_pre(a.x_pre2);
    one.s_post = of_post(a.s_post), one.x_post = of_post(a.x_post), one.x_post2 = of_post(a.x_post2);
    for (size_t k = 0; k < signals.size(); k++)
      signals[k] = rule.presynaptic[k] ? of_pre(a.signals[k]) : of_post(a.signals[k]);
    one.signals = signals.data();
    // Weights, then the eligibility of every sample, there and back.
    C* const w = take(count);
    C* const e = a.eligibility ? take(static_cast<size_t>(a.B) * count) : nullptr;
    const auto each_value = [&](const auto& visit) {
      for (size_t m = 0; m < count; m++) visit(static_cast<C*>(a.w)[synapses[m]], w[m]);
      for (int64_t b = 0; b < (e ? a.B : 0); b++)
        for (size_t m = 0; m < count; m++)
          visit(static_cast<C*>(a.eligibility)[b * in.count + synapses[m]], e[static_cast<size_t>(b) * count + m]);
    };
    each_value([](const C& there, C& here) { here = there; });
    one.w = w, one.eligibility = e;
    (sizeof(C) == sizeof(double) ? rule.run_double : rule.run_float)(one, 0, 1);
    each_value([](C& there, const C& here) { there = here; });
  }
}

template <class Device>
void own_rule_(const Arguments& arguments) {
  const OwnRule* const rule = own_library(kOp, arguments.kernel).rule;
  SNNFAST_CHECK(rule, kOp, ": the kernel ", arguments.kernel, " is that of a neuron");
  const Tensor &w = arguments.w.tensor, &s_pre = arguments.s_pre;
  const bool sparse = arguments.incoming_first.has_value();
  if (sparse) {
    check_float32_or_float64(kOp, "w", w);
    check_shape(kOp, "w", w, {w.numel()});
    check_contiguous(kOp, "w", w);
  } else {
    check_contiguous_weights(kOp, "w", w);
  }
  SNNFAST_CHECK(s_pre.dim() == 3, kOp, ": s_pre must have shape [T, B, N_pre], got ", shape_of(s_pre));
  OwnRuleArguments a{};
  const Tensor& s_post = arguments.s_post;
  SNNFAST_CHECK(s_post.dim() == 3, kOp, ": s_post must have shape [T, B, N_post], got ", shape_of(s_post));
  a.T = s_pre.size(0), a.B = s_pre.size(1);
  a.N_pre = sparse ? s_pre.size(2) : w.size(1), a.N_post = sparse ? s_post.size(2) : w.size(0);
  const IncomingSynapses incoming = read_incoming(arguments, a.N_pre, a.N_post);
  const auto checked = [&](const char* name, const Tensor& t, const std::vector<int64_t>& shape) {
    check_like(kOp, name, t, w, w.scalar_type(), shape);
    check_contiguous(kOp, name, t);
    return t;
  };
  const std::vector<int64_t> pre{a.T, a.B, a.N_pre}, post{a.T, a.B, a.N_post};
  a.s_pre = checked("s_pre", s_pre, pre).const_data_ptr();
  a.x_pre = checked("x_pre", arguments.x_pre, pre).const_data_ptr();
  a.x_pre2 = checked("x_pre2", arguments.x_pre2, pre).const_data_ptr();
  a.s_post = checked("s_post", s_post, post).const_data_ptr();
  a.x_post = checked("x_post", arguments.x_post, post).const_data_ptr();
  a.x_post2 = checked("x_post2", arguments.x_post2, post).const_data_ptr();
  a.reward = checked("reward", arguments.reward, {a.T, a.B}).const_data_ptr();
  const auto num_signals = static_cast<int64_t>(arguments.signals.size());
  SNNFAST_CHECK(num_signals == rule->num_signals, kOp, ": the kernel ", arguments.kernel, " has ", rule->num_signals,
                " signals, got ", num_signals);
  std::vector<const void*> signals;
  for (const Tensor& signal : arguments.signals)
    signals.push_back(checked("signals", signal, rule->presynaptic[signals.size()] ? pre : post).const_data_ptr());
  a.signals = signals.data();
  if (const Optional& e = arguments.eligibility.tensor)
    a.eligibility =
        (sparse ? checked("eligibility", *e, {a.B, w.numel()}) : checked("eligibility", *e, {a.B, a.N_post, a.N_pre}))
            .mutable_data_ptr();
  a.w = w.mutable_data_ptr();
  a.each_step = arguments.each_step, a.decay_eligibility = arguments.decay_eligibility, a.scale = arguments.scale;
  a.w_min = arguments.w_min, a.w_max = arguments.w_max;
  const bool is_double = w.scalar_type() == ScalarType::Double;
  const auto run = is_double ? rule->run_double : rule->run_float;
  const int64_t row = std::max<int64_t>(a.T * a.B * a.N_pre, 1);
  InterruptibleCall call;
  if (sparse) {
    const auto run_one = is_double ? run_synapses<double> : run_synapses<float>;
    parallel_for(
        a.N_post,
        std::max<int64_t>(kFewest / std::max<int64_t>(a.T * a.B * (w.numel() / std::max<int64_t>(a.N_post, 1)), 1), 1),
        [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end && !call.interrupted(); i++) run_one(*rule, a, incoming, i, i + 1);
        });
    return;
  }
  parallel_for(a.N_post, std::max<int64_t>(kFewest / row, 1), [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end && !call.interrupted(); j += kRows) run(a, j, std::min(j + kRows, end));
  });
}

SNNFAST_CPU_OPERATOR("own_rule_", own_rule_, "()")

}  // namespace
}  // namespace snnfast
