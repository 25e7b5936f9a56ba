// Plasticity by a user's rule (snnfast.plasticity.OwnRule): the synapses of a range of postsynaptic neurons, through
// all steps. Rule::change is generated; additions are in the order of the reference.
// Rule::presynaptic: sides of its signals, the last arguments of change.
// If Rule::needs_spikes, a change is 0 unless one of the two neurons fires, and other synapses are left out.
#pragma once
#include <array>
#include <utility>
#include <vector>

#include "core/own_rule.h"

namespace snnfast {

// Number of a rule's signals, as indices of a parameter pack.
template <class Rule>
using Signals = std::make_index_sequence<std::tuple_size_v<decltype(Rule::presynaptic)>>;

// Rows of the signals for a sample: `pre` is the place of its presynaptic neurons, `post` that of one neuron.
template <class Rule, class C, size_t... K>
std::array<const C*, sizeof...(K)> rows_of_signals(const OwnRuleArguments& a, int64_t pre, int64_t post,
                                                   std::index_sequence<K...>) {
  return {static_cast<const C*>(a.signals[K]) + (Rule::presynaptic[K] ? pre : post)...};
}

// The change of synapse i; `values` are arguments of Rule::change before the signals.
template <class Rule, class C, size_t... K, class... Values>
inline C change_of(const std::array<const C*, sizeof...(K)>& rows, int64_t i, std::index_sequence<K...>,
                   Values... values) {
  return Rule::template change<C>(values..., rows[K][Rule::presynaptic[K] ? i : 0]...);
}

template <class Rule, class C>
void own_rule(const OwnRuleArguments& a, int64_t begin, int64_t end) {
  constexpr int64_t rows = 16;  // postsynaptic neurons that share the loads of traces; their weights fit a cache
  const auto at = [](const void* data, int64_t i) { return static_cast<const C*>(data) + i; };
  const C decay = static_cast<C>(a.decay_eligibility), scale = static_cast<C>(a.scale);
  const C low = static_cast<C>(a.w_min), high = static_cast<C>(a.w_max);
  const auto bounded = [low, high](C value) { return value < low ? low : value > high ? high : value; };
  std::vector<C> sums(static_cast<size_t>(rows * a.N_pre));
  const bool sparse = Rule::needs_spikes && !a.eligibility;
  // Presynaptic neurons that fire in sample k: fired[first[k]] to fired[first[k + 1] - 1].
  std::vector<int64_t> fired, first(1, 0);
  for (int64_t k = 0; sparse && k < a.T * a.B; k++) {
    for (int64_t i = 0; i < a.N_pre; i++) {
      if (*at(a.s_pre, k * a.N_pre + i) != C(0)) fired.push_back(i);
    }
    first.push_back(static_cast<int64_t>(fired.size()));
  }
  for (int64_t top = begin; top < end; top += rows) {
    const int64_t bottom = top + rows < end ? top + rows : end;
    for (int64_t t = 0; t < a.T; t++) {
      // The first step clamps all weights. Otherwise single weights are updated, where they are few.
      const bool few = sparse && a.each_step && t > 0 && 8 * (first[(t + 1) * a.B] - first[t * a.B]) <= a.N_pre;
      bool all[rows] = {};  // whether all weights of a row may change
      for (int64_t b = 0; b < a.B; b++) {
        const int64_t sample = t * a.B + b, pre = sample * a.N_pre;
        const C *s_pre = at(a.s_pre, pre), *x_pre = at(a.x_pre, pre), *x_pre2 = at(a.x_pre2, pre);
        const C reward = *at(a.reward, sample);
        for (int64_t j = top; j < bottom; j++) {
          const C* w = at(a.w, j * a.N_pre);
          C* sum = sums.data() + (j - top) * a.N_pre;
          const int64_t post = sample * a.N_post + j;
          const C s_post = *at(a.s_post, post), x_post = *at(a.x_post, post), x_post2 = *at(a.x_post2, post);
          const auto signals = rows_of_signals<Rule, C>(a, pre, post, Signals<Rule>());
          const auto change = [&](int64_t i) {
            return change_of<Rule, C>(signals, i, Signals<Rule>(), w[i], s_pre[i], s_post, x_pre[i], x_post, x_pre2[i],
                                      x_post2, reward);
          };
          if (a.eligibility) {
            C* e = static_cast<C*>(a.eligibility) + (b * a.N_post + j) * a.N_pre;
#pragma omp simd
            for (int64_t i = 0; i < a.N_pre; i++) {
              e[i] = e[i] * decay + change(i);
              sum[i] += reward * e[i];
            }
          } else if (sparse && s_post == C(0)) {
            for (int64_t k = first[sample]; k < first[sample + 1]; k++) sum[fired[k]] += change(fired[k]);
          } else {
            all[j - top] = true;
#pragma omp simd
            for (int64_t i = 0; i < a.N_pre; i++) sum[i] += change(i);
          }
        }
      }
      if (!a.each_step && t < a.T - 1) continue;
      for (int64_t j = top; j < bottom; j++) {
        C *w = static_cast<C*>(a.w) + j * a.N_pre, *sum = sums.data() + (j - top) * a.N_pre;
        if (few && !all[j - top]) {  // a neuron that fires in two samples is updated twice, the second time by 0
          for (int64_t k = first[t * a.B]; k < first[(t + 1) * a.B]; k++) {
            const int64_t i = fired[k];
            w[i] = bounded(w[i] + sum[i] * scale);
            sum[i] = C(0);
          }
        } else {
#pragma omp simd
          for (int64_t i = 0; i < a.N_pre; i++) {
            w[i] = bounded(w[i] + sum[i] * scale);
            sum[i] = C(0);
          }
        }
      }
    }
  }
}

}  // namespace snnfast

#define SNNFAST_OWN_RULE(RULE)                                                               \
  extern "C" __attribute__((visibility("default"))) const snnfast::OwnRule snnfast_own_rule{ \
      sizeof(snnfast::OwnRuleArguments), RULE::presynaptic.size(), RULE::presynaptic.data(), \
      snnfast::own_rule<RULE, float>, snnfast::own_rule<RULE, double>};
