// Without recurrence neurons run in blocks, whose weights for an input are contiguous; with it one sample at a time.
// The backward pass of the arrivals runs in the same blocks, from the last arrival to the first; spikes that recurrent
// connections pass on without delays are arrivals, too.
#include "core/eventprop.h"

#include "cpu/spikeprop_events.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int kBlock = 64;

template <class C>
void sort_rows(const SpikePropEvents& a, int64_t begin, int64_t end, void* scratch) {
  const SortMemory<C> sorting(scratch, a.N);
  for (int64_t b = begin; b < end; b++) {
    C* times = static_cast<C*>(a.times) + b * a.N;
    const C* row = static_cast<const C*>(a.t_in) + b * a.I;
    int32_t problems;
    const Range<C> range = input_range(a, row, &problems);
    const int64_t kept = list_events(a, row, C(0), sorting);
    sort_events(kept, range.low, range.high, sorting, times, a.order + b * a.N);
    int64_t n = kept;
    while (n > 0 && !(times[n - 1] < static_cast<C>(a.t_max))) n--;
    a.counts[2 * b] = static_cast<int32_t>(n), a.counts[2 * b + 1] = static_cast<int32_t>(kept);
  }
}

template <class C>
void fire(const EventPropForward& f, int64_t begin, int64_t end) {
  const EventProp& a = f.a;
  const EventPropConstants<C> c(a);
  const C* w = static_cast<const C*>(a.w_in);
  for (int64_t item = begin; item < end; item++) {
    if (a.w_rec)
      run_recurrent<C>(f, c, item, Alone());
    else if (a.rows_of_neurons)
      run_feedforward<C, 1>(f, c, item / a.N, item % a.N, 1, item, w + item % a.N, a.N);
    else  // blocks are the outer loop, so that their weights stay in the caches
      run_feedforward<C, kBlock>(f, c, item % a.B, item / a.B * kBlock, min(a.N - item / a.B * kBlock, kBlock),
                                 item % a.B, w + item / a.B * kBlock, a.N);
  }
}

// Adjoints of neurons n0 ... n0 + lanes of sample b, from the last of the `events` of `row` to the first. `visit` gets
// the number of each event and, for each neuron, its `pull`: the derivatives by weight and by time at a weight of 1.
template <class C, int kLanes, class Visit>
void run_back(const EventPropBackward& f, const EventPropConstants<C>& c, const SpikePropEvents& events, int64_t b,
              int64_t n0, int64_t lanes, int64_t row, Passed<C>* passed, const Visit& visit) {
  const int64_t E = events.N;
  const C* times = static_cast<const C*>(events.times) + row * E;
  const int32_t* order = events.order + row * E;
  C before[kLanes] = {}, by_potential[kLanes], by_weight[kLanes], by_time[kLanes], latest = -1;
  int64_t left[kLanes], kept = events.counts[2 * row];
  const auto next_anchor = [&](const Anchors<C>& anchors, int64_t l) {
    before[l] = left[l] > 0 ? anchors.time[left[l] - 1] : C(-1);
  };
  for (int64_t l = 0; l < lanes; l++) {
    const Anchors<C> anchors(f, b, n0 + l);
    by_potential[l] = by_weight[l] = by_time[l] = 0, left[l] = anchors.count;
    next_anchor(anchors, l);
    latest = before[l] > latest ? before[l] : latest;
  }
  while (kept > 0 && !(times[kept - 1] < latest)) kept--;
  SNNFAST_SIMD
  for (int64_t e = 0; e + 1 < kept; e++) passed[e] = c.after(times[e + 1] - times[e]);
  if (kept > 0) passed[kept - 1] = c.after(C(0));
  for (int64_t e = kept - 1; e >= 0; e--) {
    const C t = times[e];
    const Passed<C> d = passed[e];
    int32_t look = 0;
    for (int64_t l = 0; l < lanes; l++) {
      const C pulled = by_potential[l] * d.response;
      by_potential[l] *= d.mem, by_weight[l] = by_weight[l] * d.syn + pulled;
      by_time[l] = by_time[l] * d.syn + pulled * c.inverse_mem;
      look |= before[l] > t;
    }
    for (int64_t l = 0; look && l < lanes; l++) {
      if (!(before[l] > t)) continue;
      const Anchors<C> anchors(f, b, n0 + l);
      while (left[l] > 0 && anchors.time[left[l] - 1] > t) left[l]--;
      const int64_t k = left[l];
      const Pull<C> p = pull(c, anchors.by_potential[k], anchors.by_current[k], anchors.time[k] - t);
      by_weight[l] = p.weight, by_time[l] = p.time, by_potential[l] = p.potential;
      next_anchor(anchors, l);
    }
    visit(order[e], by_weight, by_time);
  }
}

// The adjoints of `set_recurrent_anchors` for recurrence without delays: a spike reaches all neurons at once, so that
// their adjoints run from spike to spike.
template <class C>
void run_recurrent_back(const EventPropBackward& f, const EventPropConstants<C>& c, int64_t b, void* scratch) {
  const int64_t N = f.a.N, S = f.a.S, E = f.a.I * f.a.S_in;
  const C* times = static_cast<const C*>(f.spikes.times) + b * f.spikes.N;
  const int32_t* order = f.spikes.order + b * f.spikes.N;
  C *before = static_cast<C*>(scratch), *by_potential = before + N, *by_time = by_potential + N, t = kNever<C>;
  for (int64_t n = 0; n < N; n++) {
    find_anchors<C>(f, b, n);
    const Anchors<C> anchors(f, b, n);
    before[n] = anchors.count ? anchors.time[anchors.count - 1] : C(-1);
    by_potential[n] = by_time[n] = 0;
  }
  for (int64_t e = f.spikes.counts[2 * b + 1] - 1; e >= 0; e--) {
    const int64_t from = order[e] / S, k = order[e] % S;
    if (!(times[e] == t)) {  // simultaneous spikes do not influence each other
      const Passed<C> d = c.after(t < kNever<C> ? t - times[e] : C(0));
      t = times[e];
      int32_t look = 0;
      for (int64_t n = 0; n < N; n++) {
        by_time[n] = by_time[n] * d.syn + by_potential[n] * d.response * c.inverse_mem;
        by_potential[n] *= d.mem;
        look |= before[n] > t;
      }
      for (int64_t n = 0; look && n < N; n++) {
        if (!(before[n] > t)) continue;
        const Anchors<C> anchors(f, b, n);
        const int64_t next = anchors.after(t);
        const Pull<C> p = pull(c, anchors.by_potential[next], anchors.by_current[next], anchors.time[next] - t);
        by_potential[n] = p.potential, by_time[n] = p.time;
        before[n] = next > 0 ? anchors.time[next - 1] : C(-1);
      }
    }
    C g = grad_of_spike<C>(f, b, from, k);
    const C* w = static_cast<const C*>(f.a.w_rec) + from * N;
    for (int64_t n = 0; n < N; n++) g += w[n] * by_time[n];
    for (int64_t n = 0; f.grad_u && n < N; n++) g += kink<C>(f, b, n, E + from * S + k);
    Anchors<C>(f, b, from).set(c, k, g);
  }
}

template <class C>
void find_adjoints(const EventPropBackward& f, int64_t begin, int64_t end, void* scratch) {
  const EventPropConstants<C> c(f.a);
  for (int64_t b = begin; b < end; b++)
    if (f.spikes.times)
      run_recurrent_back(f, c, b, scratch);
    else if (f.a.w_rec)
      set_recurrent_anchors(f, c, b, static_cast<int32_t*>(scratch), Alone());
    else
      for (int64_t n = 0; n < f.a.N; n++) set_anchors(f, c, b, n);
}

template <class C>
void add_kink(const EventPropBackward& f, int64_t b, int64_t n, C* grad) {
  const int64_t number = f.grad_u ? f.source[b * f.a.N + n] : -1;
  if (number >= 0 && number < f.a.I * f.a.S_in) grad[number] += kink<C>(f, b, n, number);
}

template <class C>
void zero(C* values, int64_t count) {
  __builtin_memset(values, 0, static_cast<size_t>(count) * sizeof(C));
}

// Gradients of neurons n0 ... n0 + lanes: sums over samples, and those of arrivals at a single neuron.
template <class C, int kLanes>
void sum_by_neuron(const EventPropBackward& f, const EventPropConstants<C>& c, int64_t n0, int64_t count,
                   void* scratch) {
  const EventProp& a = f.a;
  const int64_t lanes = kLanes == 1 ? 1 : count;  // a constant, or GCC warns of lanes that do not exist
  Passed<C>* passed = static_cast<Passed<C>*>(scratch);
  C *sums = reinterpret_cast<C*>(passed + (a.inputs.N > f.spikes.N ? a.inputs.N : f.spikes.N)),
    *grad = nullptr;  // [I or N, lanes]
  const C* w = static_cast<const C*>(f.w) + n0 * a.I;
  const bool own_rows = a.rows_of_neurons && f.grad_arrivals;
  zero(sums, a.I * lanes);
  for (int64_t b = 0; (f.grad_w || own_rows) && b < a.B; b++) {
    const int64_t row = a.rows_of_neurons ? b * a.N + n0 : b;
    if (own_rows) zero(grad = static_cast<C*>(f.grad_arrivals) + row * a.inputs.N, a.inputs.N);
    run_back<C, kLanes>(f, c, a.inputs, b, n0, lanes, row, passed,
                        [&](int32_t number, const C* by_weight, const C* by_time) {
                          const int64_t input = number / a.S_in;
                          for (int64_t l = 0; l < lanes; l++) sums[input * lanes + l] += by_weight[l];
                          if (grad) grad[number] += w[input] * by_time[0];
                        });
    if (grad) add_kink(f, b, n0, grad);
  }
  for (int64_t l = 0; f.grad_w && l < lanes; l++)
    for (int64_t i = 0; i < a.I; i++) static_cast<C*>(f.grad_w)[(n0 + l) * a.I + i] = sums[i * lanes + l];
  if (f.spikes.times && f.grad_w_rec) {
    zero(sums, a.N * lanes);
    for (int64_t b = 0; b < a.B; b++)
      run_back<C, kLanes>(f, c, f.spikes, b, n0, lanes, b, passed, [&](int32_t number, const C* by_weight, const C*) {
        for (int64_t l = 0; l < lanes; l++) sums[number / a.S * lanes + l] += by_weight[l];
      });
    for (int64_t l = 0; l < lanes; l++)
      for (int64_t i = 0; i < a.N; i++) static_cast<C*>(f.grad_w_rec)[(n0 + l) * a.N + i] = sums[i * lanes + l];
  } else if (f.grad_w_rec || f.grad_delays_rec) {
    for (int64_t n = n0; n < n0 + lanes; n++)
      for (int64_t from = 0; from < a.N; from++) sum_recurrent(f, c, n, from);
  }
}

template <class C>
void sum_by_neuron(const EventPropBackward& f, int64_t begin, int64_t end, void* scratch) {
  const EventPropConstants<C> c(f.a);
  for (int64_t item = begin; item < end; item++)
    if (f.a.rows_of_neurons)
      sum_by_neuron<C, 1>(f, c, item, 1, scratch);
    else
      sum_by_neuron<C, kBlock>(f, c, item * kBlock, min(f.a.N - item * kBlock, kBlock), scratch);
}

// Gradients of arrivals that all neurons share.
template <class C>
void sum_by_sample(const EventPropBackward& f, int64_t begin, int64_t end, void* scratch) {
  constexpr int kChains = 8;
  const EventPropConstants<C> c(f.a);
  const int64_t E = f.a.inputs.N, N = f.a.N;
  for (int64_t b = begin; b < end; b++) {
    C* grad = static_cast<C*>(f.grad_arrivals) + b * E;
    zero(grad, E);
    for (int64_t n0 = 0; n0 < N; n0 += kBlock) {
      const int64_t lanes = min(N - n0, kBlock);
      const C* w = static_cast<const C*>(f.a.w_in) + n0;
      C products[kBlock] = {};
      run_back<C, kBlock>(f, c, f.a.inputs, b, n0, lanes, b, static_cast<Passed<C>*>(scratch),
                          [&](int32_t number, const C*, const C* by_time) {
                            const C* weights = w + number / f.a.S_in * N;
                            for (int64_t l = 0; l < lanes; l++) products[l] = weights[l] * by_time[l];
                            C sums[kChains] = {};
                            for (int l = 0; l < kBlock; l += kChains)
                              for (int k = 0; k < kChains; k++) sums[k] += products[l + k];
                            for (int k = 0; k < kChains; k++) grad[number] += sums[k];
                          });
      for (int64_t l = 0; l < lanes; l++) add_kink(f, b, n0 + l, grad);
    }
  }
}

}  // namespace

void eventprop_sort(const SpikePropEvents& a, int64_t begin, int64_t end, void* scratch) {
  a.is_double ? sort_rows<double>(a, begin, end, scratch) : sort_rows<float>(a, begin, end, scratch);
}

void eventprop_fire(const EventPropForward& f, int64_t begin, int64_t end) {
  f.a.is_double ? fire<double>(f, begin, end) : fire<float>(f, begin, end);
}

void eventprop_adjoints(const EventPropBackward& f, int64_t begin, int64_t end, void* scratch) {
  f.a.is_double ? find_adjoints<double>(f, begin, end, scratch) : find_adjoints<float>(f, begin, end, scratch);
}

void eventprop_by_neuron(const EventPropBackward& f, int64_t begin, int64_t end, void* scratch) {
  f.a.is_double ? sum_by_neuron<double>(f, begin, end, scratch) : sum_by_neuron<float>(f, begin, end, scratch);
}

void eventprop_by_sample(const EventPropBackward& f, int64_t begin, int64_t end, void* scratch) {
  f.a.is_double ? sum_by_sample<double>(f, begin, end, scratch) : sum_by_sample<float>(f, begin, end, scratch);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
