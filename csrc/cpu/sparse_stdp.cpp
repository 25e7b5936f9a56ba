// Work follows the spikes: a presynaptic spike weakens the synapses of its row, a postsynaptic one strengthens those
// that come in. A thread has a range of presynaptic neurons, so for every weight the order of additions is that of the
// reference: potentiation and depression each in order of steps and samples.
#include "core/sparse_stdp.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

template <class C>
constexpr int64_t kRows = 64 / sizeof(C);  // neurons of a word of `fired_post`

constexpr int64_t kAhead = 16;  // synapses that are loaded before their turn: those that come in are far apart

// First index of [low, high) whose value in a rising array is at least `least`.
template <class Value>
inline int64_t first_of(const Value* values, int64_t low, int64_t high, int64_t least) {
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (values[middle] < least)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// The weights of the presynaptic neurons [begin, end).
template <PlasticityKind K, class C, class Index>
struct Range {
  const SparseStdp& a;
  const Plasticity<C>& p;
  const int64_t begin, end;
  const C scale = static_cast<C>(a.scale);
  const Index* const targets = static_cast<const Index*>(a.synapses.targets);
  const int64_t* const first = a.synapses.first;
  C* const w = static_cast<C*>(a.w);
  C* const grown = static_cast<C*>(a.grown);
  C* const lost = static_cast<C*>(a.lost);

  // Calls visit(neuron) for the presynaptic neurons of the range that fire in step t of sample b.
  template <class Visit>
  inline void each_fired(int64_t t, int64_t b, const Visit& visit) const {
    const int64_t index = t * a.B + b;
    const int32_t* fired = a.fired + index * a.N_pre;
    const int64_t count = a.n_fired[index];
    for (int64_t f = first_of(fired, 0, count, begin); f < count && fired[f] < end; f++) visit(fired[f]);
  }

  // Calls visit(neuron) for the postsynaptic neurons that fire in step t of any of the samples [b0, b1).
  template <class Visit>
  inline void each_fired_post(int64_t t, int64_t b0, int64_t b1, const Visit& visit) const {
    const int64_t blocks = a.padded_post / kRows<C>;
    for (int64_t k = 0; k < blocks; k++) {
      unsigned any = 0;
      for (int64_t b = b0; b < b1; b++) any |= a.fired_post[(t * blocks + k) * a.B + b];
      for (; any; any &= any - 1) visit(k * kRows<C> + __builtin_ctz(any));
    }
  }
  inline bool fires_post(int64_t t, int64_t b, int64_t i) const {
    return a.fired_post[(t * (a.padded_post / kRows<C>)+i / kRows<C>)*a.B + b] >> i % kRows<C> & 1;
  }

  // The postsynaptic neuron of a target.
  inline int64_t neuron(int64_t target) const {
    while (target >= a.N_post) target -= a.N_post;
    return target;
  }

  // Adds what the synapses lose in step t of sample b.
  void depress(int64_t t, int64_t b) const {
    const int64_t index = t * a.B + b;
    const C* x_post = static_cast<const C*>(a.x_post) + index * a.padded_post;
    each_fired(t, b, [&](int64_t j) {
      const C x_pre2 = K == PlasticityKind::triplet ? static_cast<const C*>(a.x_pre2)[index * a.N_pre + j] : C(0);
      for (int64_t q = first[j]; q < first[j + 1]; q++)
        lost[q] += stdp_depression<K>(p, w[q], x_post[neuron(targets[q])], x_pre2);
    });
  }

  // Calls to(q, up) for the synapses that grow in step t of the samples [b0, b1): from(q) and then their growth.
  template <class From, class To>
  inline void potentiate(int64_t t, int64_t b0, int64_t b1, const From& from, const To& to) const {
    each_fired_post(t, b0, b1, [&](int64_t i) {
      for (int64_t target = i; target < a.inputs * a.N_post; target += a.N_post) {
        const int64_t low = a.incoming_first[target], last = a.incoming_first[target + 1];
        for (int64_t k = first_of(a.sources, low, last, begin); k < last && a.sources[k] < end; k++) {
          const int64_t q = a.incoming[k];
          if (k + kAhead < last) {
            const int64_t next = a.incoming[k + kAhead];
            __builtin_prefetch(w + next, 1);
            __builtin_prefetch(lost + next, 1);
          }
          C up = from(q);
          const StdpGrowth<C> growth = stdp_growth<K>(p, w[q]);
          for (int64_t b = b0; b < b1; b++) {
            if (!fires_post(t, b, i)) continue;
            const int64_t index = t * a.B + b;
            const C x_pre = static_cast<const C*>(a.x_pre)[index * a.N_pre + a.sources[k]];
            const C x_post2 =
                K == PlasticityKind::triplet ? static_cast<const C*>(a.x_post2)[index * a.padded_post + i] : C(0);
            up += stdp_potentiation<K>(p, growth, x_pre, x_post2);
          }
          to(q, up);
        }
      }
    });
  }

  // Calls visit(q) for the synapses that lose in step t of sample b.
  template <class Visit>
  inline void each_losing(int64_t t, int64_t b, const Visit& visit) const {
    if (!p.depresses()) return;
    each_fired(t, b, [&](int64_t j) {
      for (int64_t q = first[j]; q < first[j + 1]; q++) visit(q);
    });
  }

  inline void apply(int64_t q, C up) const {
    w[q] = stdp_clamp(p, w[q] + (up - lost[q]) * scale);
    lost[q] = C(0);
  }

  // A step of a rule without reward; without each_step, sums of changes.
  void change(int64_t t) const {
    for (int64_t b = 0; b < (p.depresses() ? a.B : 0); b++) depress(t, b);
    if (!a.each_step)
      return potentiate(t, 0, a.B, [&](int64_t q) { return grown[q]; }, [&](int64_t q, C up) { grown[q] = up; });
    potentiate(t, 0, a.B, [](int64_t) { return C(0); }, [&](int64_t q, C up) { apply(q, up); });
    for (int64_t b = 0; b < a.B; b++) each_losing(t, b, [&](int64_t q) { apply(q, C(0)); });
  }

  // A step of a reward-modulated rule: the eligibility of every synapse decays, so nothing is sparse.
  void modulate(int64_t t) const {
    const C decay = static_cast<C>(a.decay_eligibility);
    const int64_t low = first[begin], high = first[end];
    bool rewarded = false;
    for (int64_t b = 0; b < a.B; b++) {
      C* const e = static_cast<C*>(a.eligibility) + b * a.synapses.size;
      const auto hebbian = [&](int64_t q, C up) {
        e[q] += up - lost[q];
        lost[q] = C(0);
      };
#pragma omp simd
      for (int64_t q = low; q < high; q++) e[q] *= decay;
      if (p.depresses()) depress(t, b);
      potentiate(t, b, b + 1, [](int64_t) { return C(0); }, hebbian);
      each_losing(t, b, [&](int64_t q) { hebbian(q, C(0)); });
      const C reward = static_cast<const C*>(a.reward)[(a.t0 + t) * a.B + b];
      if (reward == 0) continue;
      rewarded = true;
#pragma omp simd
      for (int64_t q = low; q < high; q++) grown[q] += reward * e[q];
    }
    if (a.each_step && rewarded) settle();
  }

  // Adds the sums of changes to all weights.
  void settle() const {
    for (int64_t q = first[begin]; q < first[end]; q++) {
      apply(q, grown[q]);
      grown[q] = C(0);
    }
  }

  void run() const {
    if (a.t0 == 0)
      for (int64_t q = first[begin]; q < first[end]; q++) grown[q] = lost[q] = C(0);
    for (int64_t t = 0; t < a.steps; t++) a.modulated ? modulate(t) : change(t);
    if (!a.each_step && a.last && a.T > 0) settle();
  }
};

template <class C>
void weights(const SparseStdp& a, int64_t begin, int64_t end) {
  const Plasticity<C> p = plasticity<C>(a.rule);
  with_kind(a.rule.kind, [&](auto kind) {
    if (a.synapses.wide)
      Range<decltype(kind)::value, C, int32_t>{a, p, begin, end}.run();
    else
      Range<decltype(kind)::value, C, int16_t>{a, p, begin, end}.run();
  });
}

// Scales the weights to each of the postsynaptic neurons [begin, end) to a sum of magnitudes, which is in order.
template <class C>
void normalize(const SparseStdp& a, int64_t begin, int64_t end) {
  const Plasticity<C> p = plasticity<C>(a.rule);
  C* const w = static_cast<C*>(a.w);
  for (int64_t i = begin; i < end; i++) {
    const int64_t first = a.incoming_first[i], last = a.incoming_first[i + 1];
    const int64_t low = first_of(a.sources, first, last, a.begin), high = first_of(a.sources, low, last, a.end);
    double total = 0;
    for (int64_t k = low; k < high; k++) total += __builtin_fabs(static_cast<double>(w[a.incoming[k]]));
    if (!(total > 0)) continue;
    const double factor = a.norm / total;
    for (int64_t k = low; k < high; k++) {
      C& weight = w[a.incoming[k]];
      weight = stdp_clamp(p, static_cast<C>(weight * factor));
    }
  }
}

}  // namespace

// A chunk of steps, for presynaptic neurons [begin, end).
void sparse_stdp_weights(const SparseStdp& a, int64_t begin, int64_t end) {
  a.is_double ? weights<double>(a, begin, end) : weights<float>(a, begin, end);
}
// After the last chunk, for postsynaptic neurons [begin, end).
void sparse_stdp_normalize(const SparseStdp& a, int64_t begin, int64_t end) {
  a.is_double ? normalize<double>(a, begin, end) : normalize<float>(a, begin, end);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
