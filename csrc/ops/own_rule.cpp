// Operator of all plasticity rules that are compiled at run time, whose argument `kernel` names a library that
// load_own_kernel has loaded. It changes w and eligibility in place.
#include <algorithm>

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
  FIELD(double, w_max)

namespace snnfast {
namespace {

SNNFAST_ARGUMENTS(Arguments, SNNFAST_OWN_RULE_ARGUMENTS)

constexpr const char* kOp = "own_rule_";
constexpr int64_t kFewest = int64_t{1} << 18;  // evaluations of the rule a thread
constexpr int64_t kRows = 128;                 // of neurons between two looks for Ctrl-C

template <class Device>
void own_rule_(const Arguments& arguments) {
  const OwnRule* const rule = own_library(kOp, arguments.kernel).rule;
  SNNFAST_CHECK(rule, kOp, ": the kernel ", arguments.kernel, " is that of a neuron");
  const Tensor &w = arguments.w.tensor, &s_pre = arguments.s_pre;
  check_contiguous_weights(kOp, "w", w);
  SNNFAST_CHECK(s_pre.dim() == 3, kOp, ": s_pre must have shape [T, B, N_pre], got ", shape_of(s_pre));
  OwnRuleArguments a{};
  a.T = s_pre.size(0), a.B = s_pre.size(1), a.N_pre = w.size(1), a.N_post = w.size(0);
  const auto checked = [&](const char* name, const Tensor& t, const std::vector<int64_t>& shape) {
    check_like(kOp, name, t, w, w.scalar_type(), shape);
    check_contiguous(kOp, name, t);
    return t;
  };
  const std::vector<int64_t> pre{a.T, a.B, a.N_pre}, post{a.T, a.B, a.N_post};
  a.s_pre = checked("s_pre", s_pre, pre).const_data_ptr();
  a.x_pre = checked("x_pre", arguments.x_pre, pre).const_data_ptr();
  a.x_pre2 = checked("x_pre2", arguments.x_pre2, pre).const_data_ptr();
  a.s_post = checked("s_post", arguments.s_post, post).const_data_ptr();
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
    a.eligibility = checked("eligibility", *e, {a.B, a.N_post, a.N_pre}).mutable_data_ptr();
  a.w = w.mutable_data_ptr();
  a.each_step = arguments.each_step, a.decay_eligibility = arguments.decay_eligibility, a.scale = arguments.scale;
  a.w_min = arguments.w_min, a.w_max = arguments.w_max;
  const auto run = w.scalar_type() == ScalarType::Double ? rule->run_double : rule->run_float;
  const int64_t row = std::max<int64_t>(a.T * a.B * a.N_pre, 1);
  InterruptibleCall call;
  parallel_for(a.N_post, std::max<int64_t>(kFewest / row, 1), [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end && !call.interrupted(); j += kRows) run(a, j, std::min(j + kRows, end));
  });
}

SNNFAST_CPU_OPERATOR("own_rule_", own_rule_, "()")

}  // namespace
}  // namespace snnfast
