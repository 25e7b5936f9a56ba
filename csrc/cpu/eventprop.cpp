// Neurons that do not feed each other run in blocks, whose weights lie side by side for each input; others a sample at
// a time. In the backward pass the arrivals before a spike follow each other in order of time.
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
    else  // the block is the outer loop, so that its weights stay in the caches
      run_feedforward<C, kBlock>(f, c, item % a.B, item / a.B * kBlock, min(a.N - item / a.B * kBlock, kBlock),
                                 item % a.B, w + item / a.B * kBlock, a.N);
  }
}

template <class C>
void find_adjoints(const EventPropBackward& f, int32_t* left, int64_t begin, int64_t end) {
  const EventPropConstants<C> c(f.a);
  for (int64_t b = begin; b < end; b++)
    if (f.a.w_rec)
      set_recurrent_anchors(f, c, b, left + b * f.a.N, Alone());
    else
      for (int64_t n = 0; n < f.a.N; n++) set_anchors(f, c, b, n);
}

// Of all arrivals of a row before the last spike of neuron n, in order of time; returns how many.
template <class C>
int64_t pull_all(const EventPropBackward& f, const EventPropConstants<C>& c, int64_t b, int64_t n, int64_t row,
                 Pull<C>* pulls) {
  const Anchors<C> anchors(f, b, n);
  const C* times = static_cast<const C*>(f.a.inputs.times) + row * f.a.inputs.N;
  const int64_t kept = f.a.inputs.counts[2 * row];
  int64_t first = 0;
  for (int64_t k = 0; k < anchors.count; k++) {
    const C time = anchors.time[k], by_potential = anchors.by_potential[k], by_current = anchors.by_current[k];
    int64_t last = first;
    while (last < kept && times[last] < time) last++;
    SNNFAST_SIMD
    for (int64_t e = first; e < last; e++) pulls[e] = pull(c, by_potential, by_current, time - times[e]);
    first = last;
  }
  return first;
}

template <class C>
void add_times(const EventPropBackward& f, int64_t b, int64_t n, const int32_t* order, const Pull<C>* pulls,
               int64_t count, C* grad) {
  const C* w = static_cast<const C*>(f.w) + n * f.a.I;
  for (int64_t e = 0; e < count; e++) grad[order[e]] += w[order[e] / f.a.S_in] * pulls[e].time;
  const int64_t number = f.grad_u ? f.source[b * f.a.N + n] : -1;
  if (number >= 0 && number < f.a.I * f.a.S_in) grad[number] += kink<C>(f, b, n, number);
}

template <class C>
void zero(C* values, int64_t count) {
  __builtin_memset(values, 0, static_cast<size_t>(count) * sizeof(C));
}

// Gradients that are sums over samples, of the neurons [begin, end), and those of arrivals that are a neuron's own.
template <class C>
void sum_by_neuron(const EventPropBackward& f, int64_t begin, int64_t end, void* scratch) {
  const EventPropConstants<C> c(f.a);
  Pull<C>* pulls = static_cast<Pull<C>*>(scratch);
  const int64_t E = f.a.inputs.N, I = f.a.I, N = f.a.N;
  const bool own_rows = f.a.rows_of_neurons && f.grad_arrivals;
  for (int64_t n = begin; n < end; n++) {
    C* grad_w = f.grad_w ? static_cast<C*>(f.grad_w) + n * I : nullptr;
    if (grad_w) zero(grad_w, I);
    for (int64_t b = 0; (grad_w || own_rows) && b < f.a.B; b++) {
      const int64_t row = f.a.rows_of_neurons ? b * N + n : b;
      const int32_t* order = f.a.inputs.order + row * E;
      const int64_t count = pull_all(f, c, b, n, row, pulls);
      for (int64_t e = 0; grad_w && e < count; e++) grad_w[order[e] / f.a.S_in] += pulls[e].weight;
      if (!own_rows) continue;
      C* grad = static_cast<C*>(f.grad_arrivals) + row * E;
      zero(grad, E);
      add_times(f, b, n, order, pulls, count, grad);
    }
    for (int64_t from = 0; (f.grad_w_rec || f.grad_delays_rec) && from < N; from++) sum_recurrent(f, c, n, from);
  }
}

// Gradients of arrivals that all neurons share.
template <class C>
void sum_by_sample(const EventPropBackward& f, int64_t begin, int64_t end, void* scratch) {
  const EventPropConstants<C> c(f.a);
  Pull<C>* pulls = static_cast<Pull<C>*>(scratch);
  const int64_t E = f.a.inputs.N;
  for (int64_t b = begin; b < end; b++) {
    C* grad = static_cast<C*>(f.grad_arrivals) + b * E;
    zero(grad, E);
    for (int64_t n = 0; n < f.a.N; n++)
      add_times(f, b, n, f.a.inputs.order + b * E, pulls, pull_all(f, c, b, n, b, pulls), grad);
  }
}

}  // namespace

void eventprop_sort(const SpikePropEvents& a, int64_t begin, int64_t end, void* scratch) {
  a.is_double ? sort_rows<double>(a, begin, end, scratch) : sort_rows<float>(a, begin, end, scratch);
}

void eventprop_fire(const EventPropForward& f, int64_t begin, int64_t end) {
  f.a.is_double ? fire<double>(f, begin, end) : fire<float>(f, begin, end);
}

void eventprop_adjoints(const EventPropBackward& f, int32_t* left, int64_t begin, int64_t end) {
  f.a.is_double ? find_adjoints<double>(f, left, begin, end) : find_adjoints<float>(f, left, begin, end);
}

void eventprop_by_neuron(const EventPropBackward& f, int64_t begin, int64_t end, void* scratch) {
  f.a.is_double ? sum_by_neuron<double>(f, begin, end, scratch) : sum_by_neuron<float>(f, begin, end, scratch);
}

void eventprop_by_sample(const EventPropBackward& f, int64_t begin, int64_t end, void* scratch) {
  f.a.is_double ? sum_by_sample<double>(f, begin, end, scratch) : sum_by_sample<float>(f, begin, end, scratch);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
