// Neurons of the network of Diehl and Cook that have not spiked in a presentation yet, in groups. While an upper bound
// on the margins of a group stays below zero, its steps are deferred.
#pragma once
#include "cpu/diehl_cook_weights.h"

namespace snnfast::cpu {
namespace {

// Input spikes of a presentation, by step.
struct Stimulus {
  struct Inputs {
    const int32_t *begin, *end;
  };
  const SpikeTrain& train;
  int32_t* first;  // [I] inputs of the step before the first
  int64_t first_count = 0;

  Inputs operator()(int64_t t) const {
    if (t < 0) return {first, first + first_count};
    return {train.inputs + train.offsets[t], train.inputs + train.offsets[t + 1]};
  }
};

template <class C>
class Groups {
 public:
  Groups(const DiehlCook& a, const DiehlCookWeights<C>& w, DiehlCookThread<C>& thread, const Stimulus& inputs)
      : a_(a), w_(w), o_(thread), inputs_(inputs) {}

  // Starts a presentation with membrane potentials `v`, or 0.
  void begin(const C* v) {
    const C* theta = static_cast<const C*>(a_.theta);
    span_ = magnitude(C(a_.v_reset));
    for (int64_t n = 0; n < w_.groups * kGroup; n++) {
      const bool neuron = n < a_.N;
      o_.v[n] = neuron && v ? v[n] : C(0);
      o_.theta[n] = neuron ? theta[n] : C(0);
      o_.hidden[n] = neuron ? C(0) : infinity<C>();
      if (neuron) {
        reach(C(a_.v_threshold) + theta[n]);
        reach(o_.v[n]);
      }
    }
    for (int64_t g = 0; g < w_.groups; g++) o_.done[g] = -1;
  }

  void begin_bounds() {
    for (int64_t g = 0; g < w_.padded_groups; g++) {
      if (g < w_.groups)
        bound_margin(g);
      else
        o_.margin_bound[g] = -infinity<C>(), o_.least_threshold[g] = 0;
    }
  }

  // Membrane potentials, thresholds and sums reach x, which all bounds must include.
  void reach(C x) { span_ = magnitude(x) > span_ ? magnitude(x) : span_; }

  // Inhibition arrives at the end of a step.
  void inhibit(C inhibition) {
    span_ += inhibition;
    for (int64_t g = 0; g < w_.groups; g++) o_.margin_bound[g] -= inhibition;
  }

  // Margin: membrane potential minus threshold; the largest one of the neurons still in the group.
  void bound_margin(int64_t g) {
    C most = -infinity<C>(), least = infinity<C>();
    for (int64_t n = g * kGroup; n < (g + 1) * kGroup; n++) {
      const C threshold = (C(a_.v_threshold) + o_.theta[n]) + o_.hidden[n], margin = o_.v[n] - threshold;
      most = margin > most ? margin : most;
      least = threshold < least ? threshold : least;
    }
    o_.margin_bound[g] = most;
    o_.least_threshold[g] = least < infinity<C>() ? least : C(0);
  }

  // Advances the membrane potentials of a group to step t, without the inhibition at the end of step t; returns the
  // largest margin.
  C evaluate(int64_t g, int64_t t) {
    const int64_t lanes = a_.N - g * kGroup, vectors = lanes < kGroup ? (lanes + kLanes - 1) / kLanes : kVectors;
    if (vectors > kVectors - kVectors / 4)
      sum_steps<kVectors>(g, t);
    else if (vectors * 2 > kVectors)
      sum_steps<kVectors - kVectors / 4>(g, t);
    else
      sum_steps<kVectors / 2>(g, t);
    return margin(g);
  }

  // Advances the bounds of all groups by one step. Margins m = v - threshold obey m' = m decay + current - (1 - decay)
  // threshold; `slack` exceeds the rounding errors of the margins and of their bounds.
  void advance_bounds(int64_t t) {
    const int64_t spikes = inputs_(t - 1).end - inputs_(t - 1).begin;
    span_ += C(spikes) * *w_.largest + magnitude(o_.before[t]);
    const C epsilon = sizeof(C) == 4 ? C(1.1920929e-07) : C(2.220446049250313e-16);
    const C slack = C(4) * epsilon * C(spikes + 4) * span_;
    switch (w_.padded_groups) {
      case 4: return advance_bounds<4>(t, slack);
      case 8: return advance_bounds<8>(t, slack);
      default: return advance_bounds<16>(t, slack);
    }
  }

 private:
  using V = typename Simd<C>::Vector;
  using U = typename Simd<C>::Anywhere;
  static constexpr int64_t kLanes = Simd<C>::kLanes, kVectors = Simd<C>::kVectors;

  const DiehlCook& a_;
  const DiehlCookWeights<C>& w_;
  DiehlCookThread<C>& o_;
  const Stimulus& inputs_;
  C span_ = 0;  // upper bound on the magnitude of membrane potentials, thresholds and sums so far

  // For the first kCount vectors of the group.
  template <int64_t kCount>
  void sum_steps(int64_t g, int64_t t) {
    C* v = o_.v + g * kGroup;
    const C* weights = w_.weights[g];
    const int64_t stride = w_.stride[g];
    const C decay = C(a_.decay);
    for (int64_t s = o_.done[g] + 1; s <= t; s++) {
      V sum[kCount] = {};
      const Stimulus::Inputs arriving = inputs_(s - 1);
      for (const int32_t* i = arriving.begin; i != arriving.end; i++) {
        const C* row = weights + *i * stride;
        SNNFAST_UNROLL
        for (int64_t k = 0; k < kCount; k++) sum[k] += *reinterpret_cast<const U*>(row + k * kLanes);
      }
      const C before = o_.before[s], after = s ? o_.after[s - 1] : C(0);
      SNNFAST_UNROLL
      for (int64_t k = 0; k < kCount; k++) {
        V& membrane = *reinterpret_cast<V*>(v + k * kLanes);
        membrane = (membrane - after) * decay + (sum[k] - before);
      }
    }
    o_.done[g] = t;
  }

  C margin(int64_t g) const {
    const C* v = o_.v + g * kGroup;
    if (a_.theta_decay != 1)  // then every step is evaluated
      for (int64_t n = g * kGroup; n < (g + 1) * kGroup; n++) o_.theta[n] *= C(a_.theta_decay);
    alignas(64) C most[kLanes];
    for (int64_t k = 0; k < kLanes; k++) most[k] = -infinity<C>();
    const C *theta = o_.theta + g * kGroup, *hidden = o_.hidden + g * kGroup, v_threshold = C(a_.v_threshold);
    for (int64_t n = 0; n < kGroup; n += kLanes) {
      SNNFAST_SIMD
      for (int64_t k = 0; k < kLanes; k++) {
        const C margin = v[n + k] - ((v_threshold + theta[n + k]) + hidden[n + k]);
        most[k] = margin > most[k] ? margin : most[k];
      }
    }
    C margin = most[0];
    for (int64_t k = 1; k < kLanes; k++) margin = most[k] > margin ? most[k] : margin;
    return margin;
  }
  template <int kWidth>
  void advance_bounds(int64_t t, C slack) {
    typedef C Bounds __attribute__((vector_size(kWidth * sizeof(C))));
    const auto at = [](C* p) -> Bounds& { return *reinterpret_cast<Bounds*>(p); };
    const Stimulus::Inputs arriving = inputs_(t - 1);
    const C decay = C(a_.decay), leak = C(1) - decay, shift = slack - o_.before[t];
    for (int64_t g = 0; g < w_.padded_groups; g += kWidth) {
      Bounds even = {}, odd = {};  // a single sum would wait for its last addition
      C* const bounds = w_.bound + g;
      const int32_t* i = arriving.begin;
      for (; i + 1 < arriving.end; i += 2) {
        even += at(bounds + i[0] * w_.padded_groups);
        odd += at(bounds + i[1] * w_.padded_groups);
      }
      if (i != arriving.end) even += at(bounds + *i * w_.padded_groups);
      Bounds& margin = at(o_.margin_bound + g);
      margin = margin * decay + (even + odd + shift - leak * at(o_.least_threshold + g));
    }
  }
};

}  // namespace
}  // namespace snnfast::cpu
