// Plasticity by a user's rule (snnfast.plasticity.OwnRule): the synapses of a range of postsynaptic neurons, through
// all steps. Rule::change is generated; additions are in the order of the reference.
#pragma once
#include <cstdint>
#include <vector>

// In the order of snnfast/ops/own_rule.py.
struct OwnRuleArguments {
  void* w;                             // [N_post, N_pre]
  const void *s_pre, *x_pre, *x_pre2;  // [T, B, N_pre]
  const void *s_post, *x_post, *x_post2;
  const void* reward;  // [T, B]
  void* eligibility;   // [B, N_post, N_pre] if the rule is modulated by reward
  int64_t T, B, N_pre, N_post, each_step;
  double decay_eligibility, scale, w_min, w_max;
};

template <class Rule, class C>
void own_rule(const OwnRuleArguments& a, int64_t begin, int64_t end) {
  const auto at = [](const void* data, int64_t i) { return static_cast<const C*>(data) + i; };
  const C decay = static_cast<C>(a.decay_eligibility), scale = static_cast<C>(a.scale);
  const C low = static_cast<C>(a.w_min), high = static_cast<C>(a.w_max);
  std::vector<C> sums(static_cast<size_t>(a.N_pre));
  C* sum = sums.data();
  for (int64_t j = begin; j < end; j++) {
    C* w = static_cast<C*>(a.w) + j * a.N_pre;
    for (int64_t t = 0; t < a.T; t++) {
      for (int64_t b = 0; b < a.B; b++) {
        const int64_t sample = t * a.B + b, pre = sample * a.N_pre, post = sample * a.N_post + j;
        const C *s_pre = at(a.s_pre, pre), *x_pre = at(a.x_pre, pre), *x_pre2 = at(a.x_pre2, pre);
        const C s_post = *at(a.s_post, post), x_post = *at(a.x_post, post), x_post2 = *at(a.x_post2, post);
        const C reward = *at(a.reward, sample);
        const auto change = [&](int64_t i) {
          return Rule::template change<C>(w[i], s_pre[i], s_post, x_pre[i], x_post, x_pre2[i], x_post2, reward);
        };
        if (a.eligibility) {
          C* e = static_cast<C*>(a.eligibility) + (b * a.N_post + j) * a.N_pre;
#pragma omp simd
          for (int64_t i = 0; i < a.N_pre; i++) {
            e[i] = e[i] * decay + change(i);
            sum[i] += reward * e[i];
          }
        } else {
#pragma omp simd
          for (int64_t i = 0; i < a.N_pre; i++) sum[i] += change(i);
        }
      }
      if (!a.each_step && t < a.T - 1) continue;
#pragma omp simd
      for (int64_t i = 0; i < a.N_pre; i++) {
        const C changed = w[i] + sum[i] * scale;
        w[i] = changed < low ? low : changed > high ? high : changed;
        sum[i] = C(0);
      }
    }
  }
}

#define SNNFAST_OWN_RULE(RULE)                                                                                     \
  extern "C" __attribute__((visibility("default"))) void own_rule_float(const OwnRuleArguments* a, int64_t begin,  \
                                                                        int64_t end) {                             \
    own_rule<RULE, float>(*a, begin, end);                                                                         \
  }                                                                                                                \
  extern "C" __attribute__((visibility("default"))) void own_rule_double(const OwnRuleArguments* a, int64_t begin, \
                                                                         int64_t end) {                            \
    own_rule<RULE, double>(*a, begin, end);                                                                        \
  }
