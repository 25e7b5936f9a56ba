// The network with conductances: each step updates all membranes with SIMD, and adds the spikes that arrive in it.
#include "cpu/diehl_cook_conductance_memory.h"

#include <cstring>

#include "cpu/presentations.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

template <class C>
void prepare(const DiehlCookConductance& a, char* memory) {
  Arena arena(memory);
  const ConductanceWeights<C> w(a, arena);
  const int64_t N = a.N, I = a.x.I;
  if (w.copied) {
    const C* from = static_cast<const C*>(a.w);
    for (int64_t n = 0; n < N; n++)
      for (int64_t i = 0; i < I; i++) w.w[i * w.stride + n] = from[n * a.w_stride_neuron + i * a.w_stride_input];
  }
  if (!a.delays) return;
  const int64_t longest = a.longest_delay;
  for (int64_t i = 0; i < I; i++) {
    int32_t next[256] = {}, *first = w.first + i * (longest + 2), *target = w.target + i * N;
    for (int64_t n = 0; n < N; n++) next[a.delay(n, i)]++;
    first[0] = 0;
    for (int64_t d = 0; d <= longest; d++) {
      first[d + 1] = first[d] + next[d];
      next[d] = first[d];
    }
    for (int64_t n = 0; n < N; n++) target[next[a.delay(n, i)]++] = static_cast<int32_t>(n);
  }
}

template <class C>
void finish(const DiehlCookConductance& a, char* memory) {
  Arena arena(memory);
  const ConductanceWeights<C> w(a, arena);
  if (!w.copied || !a.learns) return;
  C* to = static_cast<C*>(a.w);
  for (int64_t n = 0; n < a.N; n++)
    for (int64_t i = 0; i < a.x.I; i++) to[n * a.w_stride_neuron + i * a.w_stride_input] = w.w[i * w.stride + n];
}

template <class C>
class ConductancePresentation {
 public:
  ConductancePresentation(const DiehlCookConductance& a, const ConductanceWeights<C>& w,
                          const ConductanceThread<C>& thread, const SpikeTrain& train, int64_t p)
      : a_(a),
        w_(w),
        o_(thread),
        train_(train),
        p_(p),
        history_(a.history()),
        rule_(a.learns ? plasticity<C>(a.rule) : Plasticity<C>{}) {
    second_ = rule_.lr_pre_triplet != 0 || a.state.v;
    begin();
    for (int64_t t = 0; t < a_.steps(); t++) step(t);
    end();
  }

 private:
  const DiehlCookConductance& a_;
  const ConductanceWeights<C>& w_;
  const ConductanceThread<C>& o_;
  const SpikeTrain& train_;
  const int64_t p_, history_;
  const Plasticity<C> rule_;
  bool second_;        // whether anything reads the second traces of the inputs
  int64_t count_ = 0;  // number of neurons that spike in this step

  struct Inputs {
    const int32_t *begin, *end;
  };
  Inputs inputs(int64_t t) const {
    if (t >= a_.x.T) return {nullptr, nullptr};
    if (t >= 0) return {train_.inputs + train_.offsets[t], train_.inputs + train_.offsets[t + 1]};
    const int32_t* offsets = o_.carried_offsets + a_.longest_delay + t;
    return {o_.carried + offsets[0], o_.carried + offsets[1]};
  }
  int64_t row(int64_t t) const { return (t + history_) % history_ * a_.x.I; }  // of step t in the ring
  bool remembers_inputs() const { return a_.learns || a_.state.v; }
  static C* at(void* state) { return static_cast<C*>(state); }

  void begin() {
    const DiehlCookConductanceState& s = a_.state;
    const int64_t N = a_.N, I = a_.x.I;
    if (a_.learns && a_.norm > 0) normalize();
    for (int64_t n = 0; n < o_.padded; n++) {
      const bool carry = a_.carry && n < N;
      o_.v[n] = carry ? at(s.v)[n] : C(a_.exc.v_rest);
      o_.g_exc[n] = carry ? at(s.g_exc)[n] : C(0);
      o_.g_inh[n] = carry ? at(s.g_inh)[n] : C(0);
      o_.v_inh[n] = carry ? at(s.v_inh)[n] : C(a_.inh.v_rest);
      o_.g_exc_inh[n] = carry ? at(s.g_exc_inh)[n] : C(0);
      o_.trace_post[n] = carry ? at(s.trace_post)[n] : C(0);
      o_.trace_post2[n] = carry ? at(s.trace_post2)[n] : C(0);
      o_.refractory[n] = carry ? s.refractory[n] : n < N ? 0 : INT32_MAX;
      o_.refractory_inh[n] = carry ? s.refractory_inh[n] : n < N ? 0 : INT32_MAX;
      o_.theta[n] = n < N ? a_.theta[n] : 0;
      o_.threshold[n] = C(a_.exc.v_threshold + o_.theta[n]);
    }
    o_.carried_offsets[0] = 0;
    for (int64_t d = 0; d < a_.longest_delay; d++) {
      int32_t count = o_.carried_offsets[d];
      if (a_.carry)
        for (int64_t i = 0; i < I; i++)
          if (s.last_inputs[d * I + i]) o_.carried[count++] = static_cast<int32_t>(i);
      o_.carried_offsets[d + 1] = count;
    }
    if (!remembers_inputs()) return;
    for (int64_t k = 0; k < history_ * I; k++) {
      o_.trace_pre[k] = a_.carry ? at(s.trace_pre)[k] : C(0);
      o_.trace_pre2[k] = a_.carry ? at(s.trace_pre2)[k] : C(0);
      o_.fired[k] = 0;
    }
    for (int64_t t = -a_.longest_delay; t < 0; t++) mark(t, 1);
  }

  void mark(int64_t t, uint8_t value) {
    const Inputs fired = inputs(t);
    for (const int32_t* i = fired.begin; i != fired.end; i++) o_.fired[row(t) + *i] = value;
  }

  // Sums in float64 and in order of the inputs, so that they round alike on every device.
  void normalize() {
    const int64_t N = a_.N;
    for (int64_t n = 0; n < N; n++) o_.sum[n] = 0;
    for (int64_t i = 0; i < a_.x.I; i++) {
      const C* w = w_.w + i * w_.stride;
#pragma omp simd
      for (int64_t n = 0; n < N; n++) o_.sum[n] += w[n] < 0 ? -static_cast<double>(w[n]) : static_cast<double>(w[n]);
    }
    for (int64_t n = 0; n < N; n++) o_.sum[n] = o_.sum[n] > 0 ? a_.norm / o_.sum[n] : 1.;
    for (int64_t i = 0; i < a_.x.I; i++) {
      C* w = w_.w + i * w_.stride;
#pragma omp simd
      for (int64_t n = 0; n < N; n++) w[n] = stdp_clamp(rule_, static_cast<C>(static_cast<double>(w[n]) * o_.sum[n]));
    }
  }

  void step(int64_t t) {
    if (a_.theta_decay != 1) {
#pragma omp simd
      for (int64_t n = 0; n < o_.padded; n++) {
        o_.theta[n] *= a_.theta_decay;
        o_.threshold[n] = C(a_.exc.v_threshold + o_.theta[n]);
      }
    }
    const int32_t spikes_inh = charge_inhibitory();
    count_ = 0;
    if (charge_excitatory()) collect(t);
    if (a_.learns)
      with_kind(rule_.kind, [&](auto kind) { learn<decltype(kind)::value>(t); });
    else
      arrive<PlasticityKind::count, false, false>(t);
    if (a_.state.v && !a_.learns) mark_step(t);
    if (spikes_inh) {
      const C w = C(a_.g.w_inh_exc);
#pragma omp simd
      for (int64_t n = 0; n < o_.padded; n++) o_.g_inh[n] += w * (C(spikes_inh) - C(o_.spiked_inh[n]));
    }
    for (int64_t k = 0; k < count_; k++) o_.g_exc_inh[o_.spikes[k]] += C(a_.g.w_exc_inh);
  }

  // Both populations fire before the spikes of this step arrive.
  bool charge_excitatory() {
    C *v = o_.v, *g_exc = o_.g_exc, *g_inh = o_.g_inh;
    const C* threshold = o_.threshold;
    int32_t *refractory = o_.refractory, *spiked = o_.spiked, any = 0;
    const C mean_exc = C(a_.g.mean_exc), mean_inh = C(a_.g.mean_inh), decay_exc = C(a_.g.decay_exc),
            decay_inh = C(a_.g.decay_inh);
    const C e_exc = C(a_.g.e_exc), e_inh = C(a_.g.e_inh), v_rest = C(a_.exc.v_rest), v_reset = C(a_.exc.v_reset),
            minus_rate = C(-a_.exc.rate);
    const int32_t refractory_steps = static_cast<int32_t>(a_.exc.refractory);
#pragma omp simd reduction(| : any)
    for (int64_t n = 0; n < o_.padded; n++) {
      const C exc = g_exc[n] * mean_exc, inh = g_inh[n] * mean_inh;
      const C moved = conductance_charge(v[n], (C(1) + exc) + inh, (v_rest + exc * e_exc) + inh * e_inh, minus_rate);
      const bool open = refractory[n] == 0, spike = open && moved >= threshold[n];
      v[n] = spike ? v_reset : open ? moved : v[n];
      refractory[n] = spike ? refractory_steps : refractory[n] > 0 ? refractory[n] - 1 : 0;
      spiked[n] = spike;
      any |= spike;
      g_exc[n] = fade(g_exc[n], decay_exc);
      g_inh[n] = fade(g_inh[n], decay_inh);
    }
    return any;
  }

  int32_t charge_inhibitory() {
    C *v = o_.v_inh, *g_exc = o_.g_exc_inh;
    int32_t *refractory = o_.refractory_inh, *spiked = o_.spiked_inh, count = 0;
    const C mean_exc = C(a_.g.mean_exc), decay_exc = C(a_.g.decay_exc), e_exc = C(a_.g.e_exc),
            threshold = C(a_.inh.v_threshold);
    const C v_rest = C(a_.inh.v_rest), v_reset = C(a_.inh.v_reset), minus_rate = C(-a_.inh.rate);
    const int32_t refractory_steps = static_cast<int32_t>(a_.inh.refractory);
#pragma omp simd reduction(+ : count)
    for (int64_t n = 0; n < o_.padded; n++) {
      const C exc = g_exc[n] * mean_exc;
      const C moved = conductance_charge(v[n], C(1) + exc, v_rest + exc * e_exc, minus_rate);
      const bool open = refractory[n] == 0, spike = open && moved >= threshold;
      v[n] = spike ? v_reset : open ? moved : v[n];
      refractory[n] = spike ? refractory_steps : refractory[n] > 0 ? refractory[n] - 1 : 0;
      spiked[n] = spike;
      count += spike;
      g_exc[n] = fade(g_exc[n], decay_exc);
    }
    return count;
  }

  void collect(int64_t t) {
    for (int64_t n = 0; n < a_.N; n++) {
      if (!o_.spiked[n]) continue;
      o_.spikes[count_++] = static_cast<int32_t>(n);
      o_.theta[n] += a_.theta_plus;
      o_.threshold[n] = C(a_.exc.v_threshold + o_.theta[n]);
      a_.counts[p_ * a_.N + n]++;
      if (a_.spikes) a_.spikes[(p_ * a_.steps() + t) * a_.N + n] = true;
    }
  }

  // Spikes arrive in the order in which they were sent. grow() updates the weights of neurons that spike in this step.
  template <PlasticityKind K, bool Depresses, bool Spikes>
  void arrive(int64_t t) {
    C* g_exc = o_.g_exc;
    const C* trace_post = o_.trace_post;
    const int32_t* spiked = o_.spiked;
    for (int64_t delay = a_.longest_delay; delay >= 0; delay--) {
      const Inputs arriving = inputs(t - delay);
      for (const int32_t* i = arriving.begin; i != arriving.end; i++) {
        C* w = w_.w + *i * w_.stride;
        const C trace_pre2 =
            Depresses && second_ ? fade(o_.trace_pre2[row(t - delay - 1) + *i], rule_.decay_pre2) : C(0);
        const auto reach = [&](int64_t n) {
          g_exc[n] += w[n];
          if constexpr (Depresses) {
            const C less = stdp_clamp(rule_, w[n] - stdp_depression<K>(rule_, w[n], trace_post[n], trace_pre2));
            w[n] = Spikes && spiked[n] ? w[n] : less;
          }
        };
        if (a_.delays) {
          const int32_t *first = w_.first + *i * (a_.longest_delay + 2) + delay, *target = w_.target + *i * a_.N;
          for (int32_t k = first[0]; k < first[1]; k++) reach(target[k]);
        } else {
#pragma omp simd
          for (int64_t n = 0; n < a_.N; n++) reach(n);
        }
      }
    }
  }

  // Adds the inputs of this step to the rings.
  void mark_step(int64_t t) {
    if (t - history_ >= -a_.longest_delay) mark(t - history_, 0);
    mark(t, 1);
  }

  template <PlasticityKind K>
  void learn(int64_t t) {
    const int64_t I = a_.x.I;
    mark_step(t);
    {
      const C *last = o_.trace_pre + row(t - 1), decay = rule_.decay_pre;
      C* current = o_.trace_pre + row(t);
#pragma omp simd
      for (int64_t i = 0; i < I; i++) current[i] = fade(last[i], decay);
      const Inputs fired = inputs(t);
      for (const int32_t* i = fired.begin; i != fired.end; i++) current[*i] = stdp_trace(current[*i], true, rule_.all);
    }
#pragma omp simd
    for (int64_t n = 0; n < o_.padded; n++) {
      o_.trace_post[n] = stdp_trace(fade(o_.trace_post[n], rule_.decay_post), o_.spiked[n] != 0, rule_.all);
      o_.trace_post2[n] = fade(o_.trace_post2[n], rule_.decay_post2);
    }
    if (!rule_.depresses())
      arrive<K, false, false>(t);
    else if (count_)
      arrive<K, true, true>(t);
    else
      arrive<K, true, false>(t);
    for (int64_t k = 0; k < count_; k++) grow<K>(t, o_.spikes[k]);
    for (int64_t k = 0; k < count_; k++)
      o_.trace_post2[o_.spikes[k]] = stdp_trace(o_.trace_post2[o_.spikes[k]], true, rule_.all);
    if (second_) {
      const C* last = o_.trace_pre2 + row(t - 1);
      C* current = o_.trace_pre2 + row(t);
      for (int64_t i = 0; i < I; i++)
        current[i] = stdp_trace(fade(last[i], rule_.decay_pre2), o_.fired[row(t) + i] != 0, rule_.all);
    }
  }

  template <PlasticityKind K>
  void grow(int64_t t, int64_t n) {
    const int64_t I = a_.x.I;
    const C trace_post = o_.trace_post[n], trace_post2 = o_.trace_post2[n];
    const bool depresses = rule_.depresses();
    for (int64_t i = 0; i < I; i++) {
      const int64_t sent = t - a_.delay(n, i), then = row(sent) + i;
      C& w = w_.w[i * w_.stride + n];
      C change = stdp_potentiation<K>(rule_, w, o_.trace_pre[then], trace_post2);
      if (depresses && o_.fired[then]) {
        const C trace_pre2 = second_ ? fade(o_.trace_pre2[row(sent - 1) + i], rule_.decay_pre2) : C(0);
        change -= stdp_depression<K>(rule_, w, trace_post, trace_pre2);
      }
      w = stdp_clamp(rule_, w + change);
    }
  }

  void end() {
    if (a_.changes())
      for (int64_t n = 0; n < a_.N; n++) a_.theta[n] = o_.theta[n];
    const DiehlCookConductanceState& s = a_.state;
    if (!(p_ == a_.x.P - 1 ? a_.return_state : a_.carry)) return;
    for (int64_t n = 0; n < a_.N; n++) {
      at(s.v)[n] = o_.v[n], at(s.g_exc)[n] = o_.g_exc[n], at(s.g_inh)[n] = o_.g_inh[n];
      at(s.v_inh)[n] = o_.v_inh[n], at(s.g_exc_inh)[n] = o_.g_exc_inh[n];
      at(s.trace_post)[n] = o_.trace_post[n], at(s.trace_post2)[n] = o_.trace_post2[n];
      s.refractory[n] = o_.refractory[n], s.refractory_inh[n] = o_.refractory_inh[n];
    }
    const int64_t I = a_.x.I, steps = a_.steps();
    for (int64_t h = 0; h < history_; h++) {
      const int64_t from = row(steps - history_ + h),
                    trace = a_.learns ? from : h * I;  // without a rule traces are constant
      for (int64_t i = 0; i < I; i++) {
        at(s.trace_pre)[h * I + i] = o_.trace_pre[trace + i];
        at(s.trace_pre2)[h * I + i] = o_.trace_pre2[trace + i];
        if (h > 0) s.last_inputs[(h - 1) * I + i] = o_.fired[from + i];
      }
    }
  }
};

template <class C>
void present(const DiehlCookConductance& a, char* shared, char* local, const SpikeTrain& train, int64_t p) {
  Arena shared_arena(shared), local_arena(local);
  const ConductanceWeights<C> w(a, shared_arena);
  const ConductanceThread<C> thread(a, local_arena);
  ConductancePresentation<C>(a, w, thread, train, p);
}

template <class C>
void measure(const DiehlCookConductance& a, int64_t* shared, int64_t* local) {
  Arena shared_arena(nullptr), local_arena(nullptr);
  ConductanceWeights<C> w(a, shared_arena);
  ConductanceThread<C> thread(a, local_arena);
  *shared = shared_arena.used();
  *local = local_arena.used();
}

}  // namespace

// Bytes of memory shared by all threads, and of each thread for its work and for encoding.
void diehl_cook_conductance_memory(const DiehlCookConductance& a, int64_t* shared, int64_t* local, int64_t* encoding) {
  a.is_double ? measure<double>(a, shared, local) : measure<float>(a, shared, local);
  *encoding = encode_bytes(a.x);
}

void diehl_cook_conductance_prepare(const DiehlCookConductance& a, char* shared) {
  a.is_double ? prepare<double>(a, shared) : prepare<float>(a, shared);
}

void diehl_cook_conductance_encode(const DiehlCookConductance& a, int64_t p, char* memory, const SpikeTrain& train) {
  encode_presentation(a.x, p, memory, train);
}

void diehl_cook_conductance_present(const DiehlCookConductance& a, char* shared, char* local, const SpikeTrain& train,
                                    int64_t p) {
  a.is_double ? present<double>(a, shared, local, train, p) : present<float>(a, shared, local, train, p);
}

// Copies the weights back to the caller's tensor.
void diehl_cook_conductance_finish(const DiehlCookConductance& a, char* shared) {
  a.is_double ? finish<double>(a, shared) : finish<float>(a, shared);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
