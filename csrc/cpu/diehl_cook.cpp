// The network of Diehl and Cook, driven by events. Two things make it fast. Most steps of most neurons are only noted
// down: while an upper bound on how close a group of neurons is to its thresholds stays below zero, nothing needs to be
// known about it, and what the end of a presentation finds unevaluated never is. And a neuron that has spiked leaves its
// group: its weights are copied side by side, learned there and written back once a presentation.
#include "cpu/diehl_cook.h"

#include <cstring>

#include "cpu/presentations.h"

#define SNNFAST_SIMD _Pragma("GCC ivdep")
#define SNNFAST_UNROLL _Pragma("GCC unroll 8")

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int64_t kRefresh = 128;      // presentations between two exact computations of the bounds
constexpr int64_t kWorthCopying = 16;  // presentations from which a layout of its own pays for the copy

template <class C>
struct Simd {
  static constexpr int64_t kLanes = 64 / sizeof(C), kVectors = kGroup / kLanes;
  typedef C Vector __attribute__((vector_size(64)));
  typedef C Anywhere __attribute__((vector_size(64), aligned(sizeof(C)), may_alias));
};

template <class C>
inline C infinity() {
  return C(__builtin_inf());
}

template <class C>
inline C magnitude(C x) {
  return x < 0 ? -x : x;
}

template <class C>
void bound_group(const DiehlCook& a, const DiehlCookWeights<C>& w, int64_t g) {
  const int64_t lanes = a.N - g * kGroup < kGroup ? a.N - g * kGroup : kGroup;
  C largest = *w.largest;
  for (int64_t i = 0; i < a.x.I; i++) {
    const C* row = w.weights[g] + i * w.stride[g];
    C bound = 0;
    if (lanes == kGroup) {
      alignas(64) C most[16] = {};
      for (int64_t n = 0; n < kGroup; n += 16) {
        SNNFAST_SIMD
        for (int64_t k = 0; k < 16; k++) {
          const C m = magnitude(row[n + k]);
          most[k] = m > most[k] ? m : most[k];
        }
      }
      for (int k = 0; k < 16; k++) bound = most[k] > bound ? most[k] : bound;
    } else {
      for (int64_t n = 0; n < lanes; n++) bound = magnitude(row[n]) > bound ? magnitude(row[n]) : bound;
    }
    w.bound[i * w.padded_groups + g] = bound;
    largest = bound > largest ? bound : largest;
  }
  *w.largest = largest;
}

template <class C>
void prepare(const DiehlCook& a, char* memory) {
  Arena arena(memory);
  const DiehlCookWeights<C> w(a, arena);
  const C* from = static_cast<const C*>(a.w);
  *w.largest = 0;
  if (w.lazy) memset(w.bound, 0, sizeof(C) * static_cast<size_t>(a.x.I * w.padded_groups));
  for (int64_t g = 0; g < w.groups; g++) {
    const int64_t n0 = g * kGroup, lanes = a.N - n0 < kGroup ? a.N - n0 : kGroup;
    w.changed[g] = false;
    if (a.w_stride_neuron == 1 && lanes == kGroup && a.x.P < kWorthCopying) {
      w.weights[g] = static_cast<C*>(a.w) + n0;
      w.stride[g] = a.w_stride_input;
    } else {
      C* to = w.copies + g * a.x.I * kGroup;
      w.weights[g] = to;
      w.stride[g] = kGroup;
      if (a.w_stride_neuron == 1) {
        for (int64_t i = 0; i < a.x.I; i++, to += kGroup) {
          const C* row = from + n0 + i * a.w_stride_input;
          for (int64_t n = 0; n < lanes; n++) to[n] = row[n];
          for (int64_t n = lanes; n < kGroup; n++) to[n] = 0;
        }
      } else {
        for (int64_t n = 0; n < kGroup; n++) {
          const C* column = from + (n0 + n) * a.w_stride_neuron;
          for (int64_t i = 0; i < a.x.I; i++) to[i * kGroup + n] = n < lanes ? column[i * a.w_stride_input] : C(0);
        }
      }
    }
    if (w.lazy) bound_group(a, w, g);
  }
}

// Copied weights that have changed go back to where they came from.
template <class C>
void finish(const DiehlCook& a, char* memory) {
  Arena arena(memory);
  const DiehlCookWeights<C> w(a, arena);
  for (int64_t g = 0; g < w.groups; g++) {
    const int64_t n0 = g * kGroup, lanes = a.N - n0 < kGroup ? a.N - n0 : kGroup;
    C* const to = static_cast<C*>(a.w) + n0 * a.w_stride_neuron;
    if (!w.changed[g] || w.weights[g] == to) continue;
    if (a.w_stride_neuron == 1) {
      for (int64_t i = 0; i < a.x.I; i++)
        for (int64_t n = 0; n < lanes; n++) to[i * a.w_stride_input + n] = w.weights[g][i * kGroup + n];
    } else {
      for (int64_t n = 0; n < lanes; n++)
        for (int64_t i = 0; i < a.x.I; i++) to[n * a.w_stride_neuron + i * a.w_stride_input] = w.weights[g][i * kGroup + n];
    }
  }
}

template <class C>
class Presentation {
 public:
  Presentation(const DiehlCook& a, const DiehlCookWeights<C>& w, DiehlCookThread<C>& own, const SpikeTrain& train, int64_t p)
      : a_(a), w_(w), o_(own), train_(train), p_(p), rule_(a.rule ? plasticity<C>(*a.rule) : Plasticity<C>{}), dated_(a.rule && !rule_.all && !a.state.v) {
    begin();
    for (int64_t t = 0; t < a_.x.T; t++) step(t);
    finish();
  }

 private:
  using V = typename Simd<C>::Vector;
  using U = typename Simd<C>::Anywhere;
  using Active = typename DiehlCookThread<C>::Active;
  static constexpr int64_t kLanes = Simd<C>::kLanes, kVectors = Simd<C>::kVectors;

  const DiehlCook& a_;
  const DiehlCookWeights<C>& w_;
  DiehlCookThread<C>& o_;
  const SpikeTrain& train_;
  const int64_t p_;
  const Plasticity<C> rule_;
  const bool dated_;  // traces of the inputs are made from the dates of their last spikes where one is needed
  int64_t first_count_ = 0;
  C span_ = 0;  // no membrane, threshold or sum so far is of larger magnitude

  struct Inputs {
    const int32_t *begin, *end;
  };
  Inputs inputs(int64_t t) const {  // t = -1: what fired in the step before the first
    if (t < 0) return {o_.first_inputs, o_.first_inputs + first_count_};
    return {train_.inputs + train_.offsets[t], train_.inputs + train_.offsets[t + 1]};
  }
  static C* at(void* state) { return static_cast<C*>(state); }

  void begin() {
    const DiehlCookState& s = a_.state;
    const C* theta = static_cast<const C*>(a_.theta);
    o_.count = 0;
    span_ = C(a_.v_reset) < 0 ? -C(a_.v_reset) : C(a_.v_reset);
    for (int64_t n = 0; n < w_.groups * kGroup; n++) {
      const bool neuron = n < a_.N;
      o_.v[n] = neuron && a_.carry ? at(s.v)[n] : C(0);
      o_.theta[n] = neuron ? theta[n] : C(0);
      o_.hidden[n] = neuron ? C(0) : infinity<C>();
      if (neuron) {
        const C threshold = magnitude(C(a_.v_threshold) + theta[n]), v = magnitude(o_.v[n]), most = threshold > v ? threshold : v;
        span_ = most > span_ ? most : span_;
        o_.slot[n] = -1;
      }
    }
    for (int64_t d = 0; d < a_.inhibition_delay; d++) {
      o_.ring[d] = 0;
      if (a_.carry)
        for (int64_t n = 0; n < a_.N; n++) o_.ring[d] += s.last_spikes[d * a_.N + n];
    }
    if (dated_) {
      const int32_t never = static_cast<int32_t>(-a_.x.T);
      for (int64_t i = 0; i < a_.x.I; i++) o_.last[i] = never;
      C power = 1;  // multiplied one by one, as steps would
      for (int64_t t = 0; t < a_.x.T; t++, power *= rule_.decay_pre) o_.powers[t] = power, o_.powers[a_.x.T + t] = 0;
    }
    for (int64_t i = 0; i < a_.x.I; i++) {
      o_.trace_pre[i] = a_.carry ? at(s.trace_pre)[i] : C(0);
      o_.trace_pre2[i] = a_.carry ? at(s.trace_pre2)[i] : C(0);
      if (a_.carry && s.last_input[i]) o_.first_inputs[first_count_++] = static_cast<int32_t>(i);
    }
    for (int64_t g = 0; g < w_.groups; g++) o_.done[g] = -1;
    if (a_.carry)
      for (int64_t n = 0; n < a_.N; n++) carry(n);
    for (int64_t g = 0; g < w_.padded_groups; g++) o_.margin_bound[g] = o_.least_threshold[g] = g < w_.groups ? C(0) : infinity<C>();
    for (int64_t g = 0; g < w_.padded_groups; g++) {
      if (g < w_.groups)
        bound_margin(g);
      else
        o_.margin_bound[g] = -infinity<C>(), o_.least_threshold[g] = 0;
    }
  }

  // A neuron with more to remember than its membrane begins as an active one.
  void carry(int64_t n) {
    const DiehlCookState& s = a_.state;
    bool spiked = false;
    for (int64_t d = 0; d < a_.inhibition_delay; d++) spiked |= s.last_spikes[d * a_.N + n];
    const C trace = at(s.trace_post)[n], trace2 = at(s.trace_post2)[n];
    if (!spiked && !s.refractory[n] && trace == 0 && trace2 == 0) return;
    Active& neuron = activate(n);
    neuron.refractory = s.refractory[n];
    neuron.trace_post = trace;
    neuron.trace_post2 = trace2;
    neuron.plastic = trace != 0;
    for (int64_t d = 0; d < a_.inhibition_delay; d++) o_.own[o_.slot[n] * a_.inhibition_delay + d] = s.last_spikes[d * a_.N + n];
  }

  Active& activate(int64_t n) {
    const int64_t k = o_.count++, g = n / kGroup, lane = n % kGroup;
    o_.slot[n] = k;
    o_.hidden[n] = infinity<C>();
    const C *from = w_.weights[g] + lane, *end = from + a_.x.I * w_.stride[g];
    for (C* to = o_.columns + k * a_.x.I; from != end; from += w_.stride[g]) *to++ = *from;
    for (int64_t d = 0; d < a_.inhibition_delay; d++) o_.own[k * a_.inhibition_delay + d] = false;
    o_.active[k] = {n, o_.v[n], o_.theta[n], C(0), C(0), C(0), C(0), 0, true, false, false, false};
    return o_.active[k];
  }

  // Margin: membrane minus threshold, of the neurons that are still in their group.
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

  // Brings a group's membranes to step t, its inhibition at the end of that step not included; returns the largest margin.
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

  // For the first kCount vectors of the group.
  template <int64_t kCount>
  void sum_steps(int64_t g, int64_t t) {
    C* v = o_.v + g * kGroup;
    const C* weights = w_.weights[g];
    const int64_t stride = w_.stride[g];
    const C decay = C(a_.decay);
    for (int64_t s = o_.done[g] + 1; s <= t; s++) {
      V sum[kCount] = {};
      const Inputs arriving = inputs(s - 1);
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

  // Bounds of all groups, one step on. Margins m = v - threshold obey m' = m decay + current - (1 - decay) threshold;
  // `slack` is more than what rounding can add, to them and to their bounds.
  void advance_bounds(int64_t t) {
    const int64_t spikes = inputs(t - 1).end - inputs(t - 1).begin;
    span_ += C(spikes) * *w_.largest + magnitude(o_.before[t]);
    const C epsilon = sizeof(C) == 4 ? C(1.1920929e-07) : C(2.220446049250313e-16);
    const C slack = C(4) * epsilon * C(spikes + 4) * span_;
    switch (w_.padded_groups) {
      case 4: return advance_bounds<4>(t, slack);
      case 8: return advance_bounds<8>(t, slack);
      default: return advance_bounds<16>(t, slack);
    }
  }

  template <int kWidth>
  void advance_bounds(int64_t t, C slack) {
    typedef C Bounds __attribute__((vector_size(kWidth * sizeof(C))));
    const auto at = [](C* p) -> Bounds& { return *reinterpret_cast<Bounds*>(p); };
    const Inputs arriving = inputs(t - 1);
    const C decay = C(a_.decay), leak = C(1) - decay, shift = slack - o_.before[t];
    for (int64_t g = 0; g < w_.padded_groups; g += kWidth) {
      Bounds even = {}, odd = {};  // one sum would wait for itself
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

  void step(int64_t t) {
    const int64_t delay = a_.inhibition_delay;
    int32_t* const ring = delay ? o_.ring + t % delay : nullptr;
    const int32_t arriving = delay ? *ring : 0;
    o_.before[t] = C(a_.inhibition) * C(arriving);
    o_.after[t] = 0;
    if (w_.lazy) advance_bounds(t);

    int64_t winners = 0;
    C best = -1;
    const auto candidate = [&](int64_t n, C margin) {
      if (!a_.one_winner) {
        o_.winners[winners++] = n;
      } else if (!winners || margin > best || (margin == best && n < o_.winners[0])) {
        winners = 1;
        best = margin;
        o_.winners[0] = n;
      }
    };
    for (int64_t g = 0; g < w_.groups; g++) {
      if (w_.lazy && !(o_.margin_bound[g] >= 0)) continue;
      const C margin = evaluate(g, t);
      o_.margin_bound[g] = margin;
      if (!(margin >= 0)) continue;
      for (int64_t n = g * kGroup; n < (g + 1) * kGroup; n++) {
        const C m = o_.v[n] - ((C(a_.v_threshold) + o_.theta[n]) + o_.hidden[n]);
        if (m >= 0) candidate(n, m);
      }
    }
    charge_active(t, arriving);
    for (int64_t k = 0; k < o_.count; k++)
      if (o_.active[k].margin >= 0) candidate(o_.active[k].id, o_.active[k].margin);

    for (int64_t k = 0; k < winners; k++) spike(o_.winners[k], t);
    if (delay)
      *ring = static_cast<int32_t>(winners);
    else if (winners)
      inhibit_now(t, winners);
    for (int64_t k = 0; k < o_.count; k++) {
      Active& n = o_.active[k];
      if (n.spikes)
        n.refractory = a_.refractory;
      else if (n.refractory)
        n.refractory--;
      if (delay) o_.own[k * delay + t % delay] = n.spikes;
    }
    if (a_.rule) learn(t);
    for (int64_t k = 0; k < winners; k++) o_.active[o_.slot[o_.winners[k]]].spikes = false;
  }

  void charge_active(int64_t t, int32_t arriving) {
    const Inputs in = inputs(t - 1);
    const int64_t delay = a_.inhibition_delay;
    for (int64_t k = 0; k < o_.count; k++) {
      Active& n = o_.active[k];
      n.open = n.refractory == 0;
      C current = 0;
      if (n.open) {
        const C* column = o_.columns + k * a_.x.I;
        if (n.summed)
          current = n.arriving;
        else
          for (const int32_t* i = in.begin; i != in.end; i++) current += column[*i];
        if (delay) current -= C(a_.inhibition) * (C(arriving) - C(o_.own[k * delay + t % delay]));
      }
      n.summed = false;
      n.v = diehl_cook_charge(n.v, C(a_.decay), current);
      if (a_.theta_decay != 1) n.theta *= C(a_.theta_decay);
      n.margin = n.v - (C(a_.v_threshold) + n.theta);
    }
  }

  void spike(int64_t id, int64_t t) {
    const bool first = o_.slot[id] < 0;
    Active& n = first ? activate(id) : o_.active[o_.slot[id]];
    if (first) bound_margin(id / kGroup);
    n.spikes = n.plastic = true;
    n.v = C(a_.v_reset);
    n.theta += C(a_.theta_plus);
    const C threshold = magnitude(C(a_.v_threshold) + n.theta);
    span_ = threshold > span_ ? threshold : span_;
    a_.counts[p_ * a_.N + id]++;
    if (a_.spikes) a_.spikes[(p_ * a_.x.T + t) * a_.N + id] = true;
  }

  void inhibit_now(int64_t t, int64_t winners) {
    const C inhibition = C(a_.inhibition) * C(winners);
    o_.after[t] = inhibition;
    span_ += inhibition;
    for (int64_t g = 0; g < w_.groups; g++) o_.margin_bound[g] -= inhibition;
    for (int64_t k = 0; k < o_.count; k++) {
      Active& n = o_.active[k];
      if (n.open && !n.spikes) n.v -= inhibition;
    }
  }

  // A trace that knows only the nearest spike is a power of the decay.
  void trace_inputs(int64_t t) {
    const int32_t now = static_cast<int32_t>(t);
    SNNFAST_SIMD
    for (int64_t i = 0; i < a_.x.I; i++) o_.trace_pre[i] = o_.powers[now - o_.last[i]];
  }

  // Traces, then weights, then the second traces: rules read those as they were before the step's spikes.
  void learn(int64_t t) {
    const Inputs pre = inputs(t);
    const bool second = rule_.lr_pre_triplet != 0 || a_.state.v;
    if (dated_) {
      for (const int32_t* i = pre.begin; i != pre.end; i++) o_.last[*i] = static_cast<int32_t>(t);
    } else {
      SNNFAST_SIMD
      for (int64_t i = 0; i < a_.x.I; i++) o_.trace_pre[i] *= rule_.decay_pre;
      for (const int32_t* i = pre.begin; i != pre.end; i++) o_.trace_pre[*i] = stdp_trace(o_.trace_pre[*i], true, rule_.all);
    }
    if (second) {
      SNNFAST_SIMD
      for (int64_t i = 0; i < a_.x.I; i++) o_.trace_pre2[i] *= rule_.decay_pre2;
    }
    switch (rule_.kind) {
      case PlasticityKind::additive: change<PlasticityKind::additive>(pre, t); break;
      case PlasticityKind::linear: change<PlasticityKind::linear>(pre, t); break;
      case PlasticityKind::power: change<PlasticityKind::power>(pre, t); break;
      case PlasticityKind::exponential: change<PlasticityKind::exponential>(pre, t); break;
      default: change<PlasticityKind::triplet>(pre, t);
    }
    if (second)
      for (const int32_t* i = pre.begin; i != pre.end; i++) o_.trace_pre2[*i] = stdp_trace(o_.trace_pre2[*i], true, rule_.all);
  }

  template <PlasticityKind K>
  void change(const Inputs& pre, int64_t t) {
    const bool depresses = rule_.depresses(), triplets = rule_.lr_pre_triplet != 0;
    bool traced = !dated_;
    for (int64_t k = 0; k < o_.count; k++) {
      Active& n = o_.active[k];
      C* w = o_.columns + k * a_.x.I;
      const C trace_post = n.trace_post = stdp_trace(n.trace_post * rule_.decay_post, n.spikes, rule_.all);
      const C trace_post2 = n.trace_post2 * rule_.decay_post2, *trace_pre = o_.trace_pre;
      n.trace_post2 = stdp_trace(trace_post2, n.spikes, rule_.all);
      const C loss = stdp_loss<K>(rule_, trace_post, C(0));
      const auto lost = [&](int32_t i) { return (triplets ? stdp_loss<K>(rule_, trace_post, o_.trace_pre2[i]) : loss) * stdp_shrinkage<K>(rule_, w[i]); };
      // A triplet needs a second spike to grow anything.
      const bool grows = n.spikes && (K != PlasticityKind::triplet || rule_.lr_post != 0 || trace_post2 != 0);
      if (grows) {
        if (!traced) trace_inputs(t);
        traced = true;
        if (depresses)
          for (const int32_t* i = pre.begin; i != pre.end; i++)
            o_.kept[*i] = stdp_clamp(rule_, w[*i] + (stdp_potentiation<K>(rule_, w[*i], trace_pre[*i], trace_post2) - lost(*i)));
        SNNFAST_SIMD
        for (int64_t i = 0; i < a_.x.I; i++) w[i] = stdp_clamp(rule_, w[i] + stdp_potentiation<K>(rule_, w[i], trace_pre[i], trace_post2));
        if (depresses)
          for (const int32_t* i = pre.begin; i != pre.end; i++) w[*i] = o_.kept[*i];
      } else if (depresses && trace_post != 0) {
        n.summed = n.refractory == 0;
        if (n.summed) {  // what arrives in the next step are these weights
          C sum = 0;
          for (const int32_t* i = pre.begin; i != pre.end; i++) sum += w[*i] = stdp_clamp(rule_, w[*i] - lost(*i));
          n.arriving = sum;
        } else {
          for (const int32_t* i = pre.begin; i != pre.end; i++) w[*i] = stdp_clamp(rule_, w[*i] - lost(*i));
        }
      }
    }
  }

  void finish() {
    if (a_.rule) {
      if (a_.norm > 0) normalise();
      for (int64_t k = 0; k < o_.count; k++)
        if (o_.active[k].plastic) write_back(k);
    }
    C* theta = static_cast<C*>(a_.theta);
    if (a_.theta_decay != 1)
      for (int64_t n = 0; n < a_.N; n++) theta[n] = o_.theta[n];
    if (a_.theta_plus != 0 || a_.theta_decay != 1)
      for (int64_t k = 0; k < o_.count; k++) theta[o_.active[k].id] = o_.active[k].theta;
    if (a_.state.v && (a_.carry || p_ == a_.x.P - 1)) keep_state();
  }

  // The sums of some neurons side by side, each in order: one alone would wait for its last addition.
  void normalise() {
    constexpr int kTogether = 4;
    for (int64_t k0 = 0; k0 < o_.count; k0 += kTogether) {
      const int64_t many = o_.count - k0 < kTogether ? o_.count - k0 : kTogether;
      const C* columns[kTogether];
      double sum[kTogether] = {};
      for (int64_t m = 0; m < kTogether; m++) columns[m] = o_.columns + (k0 + (m < many ? m : 0)) * a_.x.I;
      for (int64_t i = 0; i < a_.x.I; i++)
        for (int m = 0; m < kTogether; m++) sum[m] += magnitude(static_cast<double>(columns[m][i]));
      for (int64_t m = 0; m < many; m++) {
        if (!o_.active[k0 + m].plastic || !(sum[m] > 0)) continue;
        const double scale = a_.norm / sum[m];
        C* column = o_.columns + (k0 + m) * a_.x.I;
        SNNFAST_SIMD
        for (int64_t i = 0; i < a_.x.I; i++) column[i] = stdp_clamp(rule_, static_cast<C>(static_cast<double>(column[i]) * scale));
      }
    }
  }

  void write_back(int64_t k) {
    const C* column = o_.columns + k * a_.x.I;
    const int64_t n = o_.active[k].id, g = n / kGroup;
    C* w = w_.weights[g] + n % kGroup;
    for (int64_t i = 0; i < a_.x.I; i++) w[i * w_.stride[g]] = column[i];
    w_.changed[g] = true;
    if (!w_.lazy) return;
    C* const bounds = w_.bound + g;
    SNNFAST_SIMD
    for (int64_t i = 0; i < a_.x.I; i++) o_.kept[i] = magnitude(column[i]);
    for (int64_t i = 0; i < a_.x.I; i++)
      if (o_.kept[i] > bounds[i * w_.padded_groups]) bounds[i * w_.padded_groups] = o_.kept[i];
    C largest[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= a_.x.I; i += kLanes) {
      SNNFAST_SIMD
      for (int64_t k = 0; k < kLanes; k++) largest[k] = o_.kept[i + k] > largest[k] ? o_.kept[i + k] : largest[k];
    }
    for (; i < a_.x.I; i++) largest[0] = o_.kept[i] > largest[0] ? o_.kept[i] : largest[0];
    for (int64_t k = 0; k < kLanes; k++) *w_.largest = largest[k] > *w_.largest ? largest[k] : *w_.largest;
  }

  void keep_state() {
    const DiehlCookState& s = a_.state;
    const int64_t T = a_.x.T, delay = a_.inhibition_delay;
    for (int64_t g = 0; g < w_.groups; g++) {
      if (a_.theta_decay == 1 && o_.done[g] < T - 1) evaluate(g, T - 1);
      for (int64_t n = g * kGroup; n < a_.N && n < (g + 1) * kGroup; n++) {
        at(s.v)[n] = T ? o_.v[n] - o_.after[T - 1] : o_.v[n];
        s.refractory[n] = 0;
        at(s.trace_post)[n] = at(s.trace_post2)[n] = 0;
      }
    }
    for (int64_t i = 0; i < a_.x.I; i++) {
      at(s.trace_pre)[i] = o_.trace_pre[i];
      at(s.trace_pre2)[i] = o_.trace_pre2[i];
      s.last_input[i] = false;
    }
    const Inputs last = inputs(T - 1);
    for (const int32_t* i = last.begin; i != last.end; i++) s.last_input[*i] = true;
    for (int64_t m = 0; m < delay * a_.N; m++) s.last_spikes[m] = false;
    for (int64_t k = 0; k < o_.count; k++) {
      const Active& n = o_.active[k];
      at(s.v)[n.id] = n.v;
      s.refractory[n.id] = n.refractory;
      at(s.trace_post)[n.id] = n.trace_post;
      at(s.trace_post2)[n.id] = n.trace_post2;
      for (int64_t d = 0; d < delay; d++) s.last_spikes[d * a_.N + n.id] = o_.own[k * delay + (T + d) % delay];
    }
  }
};

template <class C>
void present(const DiehlCook& a, char* shared, char* own, const SpikeTrain& train, int64_t p) {
  Arena shared_arena(shared), own_arena(own);
  const DiehlCookWeights<C> w(a, shared_arena);
  DiehlCookThread<C> thread(a, own_arena);
  // Bounds only grow while weights are written back one by one.
  if (w.lazy && a.rule && p && p % kRefresh == 0) {
    *w.largest = 0;
    for (int64_t g = 0; g < w.groups; g++) bound_group(a, w, g);
  }
  Presentation<C>(a, w, thread, train, p);
}

template <class C>
void measure(const DiehlCook& a, int64_t* shared, int64_t* own) {
  Arena shared_arena(nullptr), own_arena(nullptr);
  DiehlCookWeights<C> w(a, shared_arena);
  DiehlCookThread<C> thread(a, own_arena);
  *shared = shared_arena.used();
  *own = own_arena.used();
}

}  // namespace

// Bytes of memory that all threads share, that each thread works in, and that each encodes in.
void diehl_cook_memory(const DiehlCook& a, int64_t* shared, int64_t* own, int64_t* encoding) {
  a.f64 ? measure<double>(a, shared, own) : measure<float>(a, shared, own);
  *encoding = encode_bytes(a.x);
}

void diehl_cook_prepare(const DiehlCook& a, char* shared) { a.f64 ? prepare<double>(a, shared) : prepare<float>(a, shared); }

void diehl_cook_finish(const DiehlCook& a, char* shared) { a.f64 ? finish<double>(a, shared) : finish<float>(a, shared); }

void diehl_cook_encode(const DiehlCook& a, int64_t p, char* memory, const SpikeTrain& train) { encode_presentation(a.x, p, memory, train); }

void diehl_cook_present(const DiehlCook& a, char* shared, char* own, const SpikeTrain& train, int64_t p) {
  a.f64 ? present<double>(a, shared, own, train, p) : present<float>(a, shared, own, train, p);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
