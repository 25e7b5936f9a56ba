// The network of Diehl and Cook, event-driven, with two optimisations. Most steps of most neurons are deferred: while
// an upper bound on the margins of a group (membrane potential minus threshold) stays below zero, it is not evaluated;
// steps still pending at the end of a presentation never are. A neuron that has spiked leaves its group: its weights
// are copied to a contiguous column, learned there and written back once per presentation.
#include "cpu/diehl_cook_groups.h"
#include "cpu/presentations.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int64_t kRefresh = 128;  // presentations between two exact computations of the bounds

template <class C>
class Presentation {
 public:
  Presentation(const DiehlCook& a, const DiehlCookWeights<C>& w, DiehlCookThread<C>& thread, const SpikeTrain& train,
               int64_t p)
      : a_(a),
        w_(w),
        o_(thread),
        p_(p),
        rule_(a.learns ? plasticity<C>(a.rule) : Plasticity<C>{}),
        dated_(a.learns && !rule_.all && !a.state.v),
        inputs_{train, thread.first_inputs},
        groups_(a, w, thread, inputs_) {
    begin();
    for (int64_t t = 0; t < a_.x.T; t++) step(t);
    finish();
  }

 private:
  using Active = typename DiehlCookThread<C>::Active;
  using Inputs = Stimulus::Inputs;
  static constexpr int64_t kLanes = Simd<C>::kLanes;

  const DiehlCook& a_;
  const DiehlCookWeights<C>& w_;
  DiehlCookThread<C>& o_;
  const int64_t p_;
  const Plasticity<C> rule_;
  const bool dated_;  // input traces are computed on demand, from the steps of the last spikes
  Stimulus inputs_;
  Groups<C> groups_;

  static C* at(void* state) { return static_cast<C*>(state); }

  void begin() {
    const DiehlCookState& s = a_.state;
    o_.count = 0;
    groups_.begin(a_.carry ? at(s.v) : nullptr);
    for (int64_t n = 0; n < a_.N; n++) o_.slot[n] = -1;
    for (int64_t d = 0; d < a_.inhibition_delay; d++) {
      o_.ring[d] = 0;
      if (a_.carry)
        for (int64_t n = 0; n < a_.N; n++) o_.ring[d] += s.last_spikes[d * a_.N + n];
    }
    if (dated_) {
      const int32_t never = static_cast<int32_t>(-a_.x.T);
      for (int64_t i = 0; i < a_.x.I; i++) o_.last[i] = never;
      C power = 1;  // multiplied step by step, as traces decay
      for (int64_t t = 0; t < a_.x.T; t++, power *= rule_.decay_pre) o_.powers[t] = power, o_.powers[a_.x.T + t] = 0;
    }
    for (int64_t i = 0; i < a_.x.I; i++) {
      o_.trace_pre[i] = a_.carry ? at(s.trace_pre)[i] : C(0);
      o_.trace_pre2[i] = a_.carry ? at(s.trace_pre2)[i] : C(0);
      if (a_.carry && s.last_input[i]) inputs_.first[inputs_.first_count++] = static_cast<int32_t>(i);
    }
    if (a_.carry)
      for (int64_t n = 0; n < a_.N; n++) carry(n);
    groups_.begin_bounds();
  }

  // A neuron with more state than its membrane potential starts as an active one.
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
    for (int64_t d = 0; d < a_.inhibition_delay; d++)
      o_.recent_spikes[o_.slot[n] * a_.inhibition_delay + d] = s.last_spikes[d * a_.N + n];
  }

  Active& activate(int64_t n) {
    const int64_t k = o_.count++, g = n / kGroup, lane = n % kGroup;
    o_.slot[n] = k;
    o_.hidden[n] = infinity<C>();
    const C *from = w_.weights[g] + lane, *end = from + a_.x.I * w_.stride[g];
    for (C* to = o_.columns + k * a_.x.I; from != end; from += w_.stride[g]) *to++ = *from;
    for (int64_t d = 0; d < a_.inhibition_delay; d++) o_.recent_spikes[k * a_.inhibition_delay + d] = false;
    o_.active[k] = {n, o_.v[n], o_.theta[n], C(0), C(0), C(0), C(0), 0, true, false, false, false};
    return o_.active[k];
  }

  void step(int64_t t) {
    const int64_t delay = a_.inhibition_delay;
    int32_t* const ring = delay ? o_.ring + t % delay : nullptr;
    const int32_t arriving = delay ? *ring : 0;
    o_.before[t] = C(a_.inhibition) * C(arriving);
    o_.after[t] = 0;
    if (w_.lazy) groups_.advance_bounds(t);

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
      const C margin = groups_.evaluate(g, t);
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
      if (delay) o_.recent_spikes[k * delay + t % delay] = n.spikes;
    }
    if (a_.learns) learn(t);
    for (int64_t k = 0; k < winners; k++) o_.active[o_.slot[o_.winners[k]]].spikes = false;
  }

  void charge_active(int64_t t, int32_t arriving) {
    const Inputs in = inputs_(t - 1);
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
        if (delay) current -= C(a_.inhibition) * (C(arriving) - C(o_.recent_spikes[k * delay + t % delay]));
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
    if (first) groups_.bound_margin(id / kGroup);
    n.spikes = n.plastic = true;
    n.v = C(a_.v_reset);
    n.theta += C(a_.theta_plus);
    groups_.reach(C(a_.v_threshold) + n.theta);
    a_.counts[p_ * a_.N + id]++;
    if (a_.spikes) a_.spikes[(p_ * a_.x.T + t) * a_.N + id] = true;
  }

  void inhibit_now(int64_t t, int64_t winners) {
    const C inhibition = C(a_.inhibition) * C(winners);
    o_.after[t] = inhibition;
    groups_.inhibit(inhibition);
    for (int64_t k = 0; k < o_.count; k++) {
      Active& n = o_.active[k];
      if (n.open && !n.spikes) n.v -= inhibition;
    }
  }

  // A nearest-spike trace is a power of the decay.
  void trace_inputs(int64_t t) {
    const int32_t current = static_cast<int32_t>(t);
    SNNFAST_SIMD
    for (int64_t i = 0; i < a_.x.I; i++) o_.trace_pre[i] = o_.powers[current - o_.last[i]];
  }

  // Order: traces, weights, second traces, since rules read the second traces as they were before the step's spikes.
  void learn(int64_t t) {
    const Inputs pre = inputs_(t);
    const bool second = rule_.lr_pre_triplet != 0 || a_.state.v;
    if (dated_) {
      for (const int32_t* i = pre.begin; i != pre.end; i++) o_.last[*i] = static_cast<int32_t>(t);
    } else {
      SNNFAST_SIMD
      for (int64_t i = 0; i < a_.x.I; i++) o_.trace_pre[i] *= rule_.decay_pre;
      for (const int32_t* i = pre.begin; i != pre.end; i++)
        o_.trace_pre[*i] = stdp_trace(o_.trace_pre[*i], true, rule_.all);
    }
    if (second) {
      SNNFAST_SIMD
      for (int64_t i = 0; i < a_.x.I; i++) o_.trace_pre2[i] *= rule_.decay_pre2;
    }
    with_kind(rule_.kind, [&](auto kind) { change<decltype(kind)::value>(pre, t); });
    if (second)
      for (const int32_t* i = pre.begin; i != pre.end; i++)
        o_.trace_pre2[*i] = stdp_trace(o_.trace_pre2[*i], true, rule_.all);
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
      const auto lost = [&](int32_t i) {
        return (triplets ? stdp_loss<K>(rule_, trace_post, o_.trace_pre2[i]) : loss) * stdp_shrinkage<K>(rule_, w[i]);
      };
      // A triplet rule without a pair term needs a second spike to potentiate.
      const bool grows = n.spikes && (K != PlasticityKind::triplet || rule_.lr_post != 0 || trace_post2 != 0);
      if (grows) {
        if (!traced) trace_inputs(t);
        traced = true;
        if (depresses)
          for (const int32_t* i = pre.begin; i != pre.end; i++)
            o_.scratch[*i] =
                stdp_clamp(rule_, w[*i] + (stdp_potentiation<K>(rule_, w[*i], trace_pre[*i], trace_post2) - lost(*i)));
        SNNFAST_SIMD
        for (int64_t i = 0; i < a_.x.I; i++)
          w[i] = stdp_clamp(rule_, w[i] + stdp_potentiation<K>(rule_, w[i], trace_pre[i], trace_post2));
        if (depresses)
          for (const int32_t* i = pre.begin; i != pre.end; i++) w[*i] = o_.scratch[*i];
      } else if (depresses && trace_post != 0) {
        n.summed = n.refractory == 0;
        if (n.summed) {  // the input of the next step is the sum of these weights
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
    if (a_.learns) {
      if (a_.norm > 0) normalize();
      for (int64_t k = 0; k < o_.count; k++)
        if (o_.active[k].plastic) write_back(k);
    }
    C* theta = static_cast<C*>(a_.theta);
    if (a_.theta_decay != 1)
      for (int64_t n = 0; n < a_.N; n++) theta[n] = o_.theta[n];
    if (a_.theta_plus != 0 || a_.theta_decay != 1)
      for (int64_t k = 0; k < o_.count; k++) theta[o_.active[k].id] = o_.active[k].theta;
    if (p_ == a_.x.P - 1 ? a_.return_state : a_.carry) keep_state();
  }

  // Sums of several neurons at a time, each in order: a single sum would wait for its last addition.
  void normalize() {
    constexpr int kTogether = 4;
    for (int64_t k0 = 0; k0 < o_.count; k0 += kTogether) {
      const int64_t many = min(o_.count - k0, kTogether);
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
        for (int64_t i = 0; i < a_.x.I; i++)
          column[i] = stdp_clamp(rule_, static_cast<C>(static_cast<double>(column[i]) * scale));
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
    for (int64_t i = 0; i < a_.x.I; i++) o_.scratch[i] = magnitude(column[i]);
    for (int64_t i = 0; i < a_.x.I; i++)
      if (o_.scratch[i] > bounds[i * w_.padded_groups]) bounds[i * w_.padded_groups] = o_.scratch[i];
    C largest[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= a_.x.I; i += kLanes) {
      SNNFAST_SIMD
      for (int64_t k = 0; k < kLanes; k++) largest[k] = o_.scratch[i + k] > largest[k] ? o_.scratch[i + k] : largest[k];
    }
    for (; i < a_.x.I; i++) largest[0] = o_.scratch[i] > largest[0] ? o_.scratch[i] : largest[0];
    for (int64_t k = 0; k < kLanes; k++) *w_.largest = largest[k] > *w_.largest ? largest[k] : *w_.largest;
  }

  void keep_state() {
    const DiehlCookState& s = a_.state;
    const int64_t T = a_.x.T, delay = a_.inhibition_delay;
    for (int64_t g = 0; g < w_.groups; g++) {
      if (a_.theta_decay == 1 && o_.done[g] < T - 1) groups_.evaluate(g, T - 1);
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
    const Inputs last = inputs_(T - 1);
    for (const int32_t* i = last.begin; i != last.end; i++) s.last_input[*i] = true;
    for (int64_t m = 0; m < delay * a_.N; m++) s.last_spikes[m] = false;
    for (int64_t k = 0; k < o_.count; k++) {
      const Active& n = o_.active[k];
      at(s.v)[n.id] = n.v;
      s.refractory[n.id] = n.refractory;
      at(s.trace_post)[n.id] = n.trace_post;
      at(s.trace_post2)[n.id] = n.trace_post2;
      for (int64_t d = 0; d < delay; d++)
        s.last_spikes[d * a_.N + n.id] = o_.recent_spikes[k * delay + (T + d) % delay];
    }
  }
};

template <class C>
void present(const DiehlCook& a, char* shared, char* local, const SpikeTrain& train, int64_t p) {
  Arena shared_arena(shared), local_arena(local);
  const DiehlCookWeights<C> w(a, shared_arena);
  DiehlCookThread<C> thread(a, local_arena);
  // Between exact computations, writing back weights only raises the bounds.
  if (w.lazy && a.learns && p && p % kRefresh == 0) {
    *w.largest = 0;
    for (int64_t g = 0; g < w.groups; g++) bound_group(a, w, g);
  }
  Presentation<C>(a, w, thread, train, p);
}

template <class C>
void measure(const DiehlCook& a, int64_t* shared, int64_t* local) {
  Arena shared_arena(nullptr), local_arena(nullptr);
  DiehlCookWeights<C> w(a, shared_arena);
  DiehlCookThread<C> thread(a, local_arena);
  *shared = shared_arena.used();
  *local = local_arena.used();
}

}  // namespace

// Bytes of memory shared by all threads, and of each thread for its work and for encoding.
void diehl_cook_memory(const DiehlCook& a, int64_t* shared, int64_t* local, int64_t* encoding) {
  a.is_double ? measure<double>(a, shared, local) : measure<float>(a, shared, local);
  *encoding = encode_bytes(a.x);
}

void diehl_cook_prepare(const DiehlCook& a, char* shared) {
  a.is_double ? prepare<double>(a, shared) : prepare<float>(a, shared);
}

void diehl_cook_finish(const DiehlCook& a, char* shared) {
  a.is_double ? finish<double>(a, shared) : finish<float>(a, shared);
}

void diehl_cook_encode(const DiehlCook& a, int64_t p, char* memory, const SpikeTrain& train) {
  encode_presentation(a.x, p, memory, train);
}

void diehl_cook_present(const DiehlCook& a, char* shared, char* local, const SpikeTrain& train, int64_t p) {
  a.is_double ? present<double>(a, shared, local, train, p) : present<float>(a, shared, local, train, p);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
