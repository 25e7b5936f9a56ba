// A user's plasticity rule: arguments of its loop (csrc/cpu/own_rule.h), and its library.
#pragma once
#include <cstdint>

namespace snnfast {

struct OwnRuleArguments {
  void* w;                             // [N_post, N_pre]
  const void *s_pre, *x_pre, *x_pre2;  // [T, B, N_pre]
  const void *s_post, *x_post, *x_post2;
  const void* reward;          // [T, B]
  const void* const* signals;  // [T, B, N_pre] or [T, B, N_post] each
  void* eligibility;           // [B, N_post, N_pre] if the rule is modulated by reward
  int64_t T, B, N_pre, N_post, each_step;
  double decay_eligibility, scale, w_min, w_max;
};

// Contract between the shared library of a user's rule and its operator (csrc/ops/own_rule.cpp): the library exports
// one symbol, snnfast_own_rule.
struct OwnRule {
  int64_t argument_bytes;  // size of OwnRuleArguments; the operator compares it with its own
  int64_t num_signals;
  const bool* presynaptic;  // whether a signal is one of presynaptic neurons
  void (*run_float)(const OwnRuleArguments&, int64_t begin, int64_t end);
  void (*run_double)(const OwnRuleArguments&, int64_t begin, int64_t end);
};

}  // namespace snnfast
