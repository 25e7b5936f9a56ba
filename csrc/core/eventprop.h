// Leaky integrate-and-fire neurons with exponential synapses, simulated by events. Between two events
//
//   tau_mem v' = i - v,   tau_syn i' = -i
//
// has a closed form, and so has its only maximum. Both devices share this code. The CPU runs blocks of neurons; CUDA
// one thread per neuron, or with recurrence one block of threads per sample.
#pragma once
#include "arena.h"
#include "spikeprop.h"
#ifdef __CUDACC__
#include <cmath>
#endif

namespace snnfast {

struct EventProp {
  SpikePropEvents inputs;    // sorted arrivals, a row per sample, or per neuron if `rows_of_neurons`; numbers in rows
  SpikePropEvents waits;     // with delays_rec: a row per source, its targets in order of their delays
  const void *w_in, *w_rec;  // [I, N] and [source N, target N]; w_rec is null without recurrence
  double tau_mem, tau_syn, v_threshold, t_max, slope_min;
  int64_t B, N, I, S_in, S;                                // a sample has E = I S_in arrivals
  bool rows_of_neurons, one_row, is_double, return_u_max;  // one_row: the rows of a sample's neurons are merged in one
  bool stops;                                              // neurons stop firing after S spikes
};

struct EventPropForward {
  EventProp a;
  void *t_out, *u_max, *slope, *peak;  // [B, N, S], [B, N] or [0], [B, N, S], [B, N] or [0]
  int32_t* source;                     // [B, N] or [0]: number of the arrival that ends the rise to the peak, or -1
  void* memory;                        // with recurrence, `recurrent_bytes` per sample
};

struct EventPropBackward {
  EventProp a;
  SpikePropEvents spikes;  // on the CPU, with recurrence without delays: a row per sample, by number `n S + k`
  const void *w, *w_out, *delays_rec;  // [N, I], [target N, source N], [target N, source N]
  const void* arrivals;                // [B, E] or [B, N, E]
  const void *grad_t, *grad_u;         // may be null
  const void *t_out, *slope, *peak;
  const int32_t* source;
  void *time, *by_potential, *by_current;  // [B, N, S]: a neuron's spikes, or its peak, and adjoints of v and i there
  void *grad_arrivals, *grad_w, *grad_w_rec, *grad_delays_rec;  // null where not wanted
};

namespace {

template <class C>
constexpr C kNever = static_cast<C>(__builtin_inf());

SNNFAST_HD float log_of_1_plus(float x) {
#ifdef __CUDACC__
  return log1pf(x);
#else
  return __builtin_log1pf(x);
#endif
}
SNNFAST_HD double log_of_1_plus(double x) {
#ifdef __CUDACC__
  return log1p(x);
#else
  return __builtin_log1p(x);
#endif
}

// Decay factors of v and i over a time, and the potential that a unit current causes by then.
template <class C>
struct Passed {
  C mem, syn, response;
};

template <class C>
struct EventPropConstants {
  C tau, tau_syn, inverse_mem, inverse_syn, difference, apart, inverse_apart, threshold, bound, most;
  bool slow_membrane;

  SNNFAST_HD explicit EventPropConstants(const EventProp& a) {
    const double gap = 1 / a.tau_syn - 1 / a.tau_mem, magnitude = gap < 0 ? -gap : gap;
    tau = static_cast<C>(a.tau_mem), tau_syn = static_cast<C>(a.tau_syn);
    inverse_mem = static_cast<C>(1 / a.tau_mem), inverse_syn = static_cast<C>(1 / a.tau_syn);
    difference = static_cast<C>(a.tau_mem - a.tau_syn);
    apart = static_cast<C>(magnitude);
    inverse_apart = magnitude > 0 ? static_cast<C>(1 / (magnitude * a.tau_mem)) : C(0);
    threshold = static_cast<C>(a.v_threshold);
    bound = static_cast<C>(a.slope_min * a.v_threshold / a.tau_mem);
    slow_membrane = gap > 0;
    most = after(top(C(0), C(1))).response * (1 + slack());
  }
  SNNFAST_HD static constexpr C slack() { return sizeof(C) == 8 ? C(1e-12) : C(1e-5); }

  // The response is a difference of two exponentials; where these are nearly equal, a series gives their quotient.
  SNNFAST_HD Passed<C> after(C s) const {
    const C mem = exp_nonpositive(-s * inverse_mem), syn = exp_nonpositive(-s * inverse_syn);
    const C slow = slow_membrane ? mem : syn, fast = slow_membrane ? syn : mem, y = apart * s;
    C p = C(1.6059043836821613e-10);  // 1 - y/2! ... of (1 - exp(-y)) / y, up to y^12 / 13!
    p = C(2.08767569878681e-09) - y * p;
    p = C(2.505210838544172e-08) - y * p;
    p = C(2.755731922398589e-07) - y * p;
    p = C(2.7557319223985893e-06) - y * p;
    p = C(2.48015873015873e-05) - y * p;
    p = C(1.984126984126984e-04) - y * p;
    p = C(1.388888888888889e-03) - y * p;
    p = C(8.333333333333333e-03) - y * p;
    p = C(4.1666666666666664e-02) - y * p;
    p = C(1.6666666666666666e-01) - y * p;
    p = C(0.5) - y * p;
    p = C(1) - y * p;
    return {mem, syn, y < C(0.25) ? slow * (s * inverse_mem) * p : (slow - fast) * inverse_apart};
  }

  // Time of the maximum of a rising potential, where i = v. A potential that stays below 0 never stops rising.
  SNNFAST_HD C top(C v, C i) const {
    const C scale = v * difference + i * tau_syn;
    if (!(scale > 0)) return kNever<C>;
    const C x = (i - v) / scale, y = difference * x;
    return tau * tau_syn * x * (y == 0 ? C(1) : log_of_1_plus(y) / y);
  }

  // An upper bound of the later potential.
  SNNFAST_HD C highest(C v, C i) const { return (v > 0 ? v : C(0)) + i * most; }

  // Time to the first crossing within `length`, after which the potential is v_end. A neuron crosses upwards where
  // i > v = threshold. Until then the potential is concave: Newton's steps from the left never pass the crossing.
  SNNFAST_HD C crossing(C t, C v, C i, C length, C v_end) const {
    if (v >= threshold) return 0;  // at or above the threshold by rounding
    if (!(i > threshold)) return kNever<C>;
    C last = length;
    if (v_end < threshold) {  // the maximum may lie before the end
      if (highest(v, i) < threshold) return kNever<C>;
      last = top(v, i);
      if (!(last < length)) return kNever<C>;
      const Passed<C> d = after(last);
      if (v * d.mem + i * d.response < threshold) return kNever<C>;
    }
    C s = 0;
    for (int step = 0; step < kSpikePropSteps; step++) {
      const Passed<C> d = after(s);
      const C u = v * d.mem + i * d.response, missing = threshold - u, slope = (i * d.syn - u) * inverse_mem;
      if (!(missing > 0)) break;
      const C step_to = s + missing / (slope > 0 ? slope : C(1)), next = slope > 0 && step_to < last ? step_to : last;
      const C moved = next - s;
      s = next;
      if (!(moved > kSpikePropRounding<C> * (t + next))) break;
    }
    return s;
  }
  SNNFAST_HD bool may_cross(C v, C i, C v_end, C i_end) const {
    return v >= threshold || (i > threshold && (v_end >= threshold || i_end < v_end));
  }
};

// ---- forward

// Spikes of one neuron, and its largest potential while it has none.
template <class C>
struct Record {
  C *t_out, *slope, *u_max, *peak;
  int32_t* source;
  int64_t S;

  SNNFAST_HD Record(const EventPropForward& f, int64_t b, int64_t n) : S(f.a.S) {
    const int64_t i = b * f.a.N + n;
    t_out = static_cast<C*>(f.t_out) + i * S, slope = static_cast<C*>(f.slope) + i * S;
    u_max = f.a.return_u_max ? static_cast<C*>(f.u_max) + i : nullptr;
    peak = f.a.return_u_max ? static_cast<C*>(f.peak) + i : nullptr;
    source = f.a.return_u_max ? f.source + i : nullptr;
  }
  SNNFAST_HD void clear() const {
    for (int64_t k = 0; k < S; k++) t_out[k] = slope[k] = kNever<C>;
    if (u_max) *u_max = 0, *peak = -1, *source = -1;
  }
  SNNFAST_HD bool add(int32_t& count, C time, C rise) const {
    if (count >= S) return false;
    t_out[count] = time, slope[count] = rise > 0 ? rise : C(0);
    count++;
    return true;
  }
  SNNFAST_HD void overflow() const {
    const C nan = static_cast<C>(__builtin_nan(""));
    for (int64_t k = 0; k < S; k++) t_out[k] = nan;
    if (u_max) *u_max = nan;
  }
  // From t to `end` without a spike. The last of equal potentials counts: of several arrivals at one time, the one
  // after which the potential falls.
  SNNFAST_HD void look_at_peak(const EventPropConstants<C>& c, C t, C v, C i, C end, C v_end, C i_end,
                               int32_t next) const {
    if (!(i > v && i > 0) || c.highest(v, i) < *u_max) return;
    const bool inside = i_end < v_end;
    C s = end - t, value = v_end;
    if (inside) {
      const C top = c.top(v, i);
      s = top < s ? top : s;
      const Passed<C> d = c.after(s);
      value = v * d.mem + i * d.response;
    }
    if (!(value > 0 && value >= *u_max)) return;
    *u_max = value, *peak = inside ? t + s : end, *source = inside ? -1 : next;
    *slope = inside ? C(0) : (i_end - v_end) * c.inverse_mem;
  }
  SNNFAST_HD void finish(const EventPropConstants<C>& c, int32_t count) const {
    if (u_max && count > 0) *u_max = c.threshold;
  }
};

// Advances a neuron over an interval without arrivals; v_end and i_end are its state at the end without spikes. Returns
// whether all spikes had room.
template <class C>
SNNFAST_HD bool fire_within(const EventPropConstants<C>& c, const Record<C>& record, int32_t& count, C t, C end, C v,
                            C i, C& v_end, C& i_end, bool stops) {
  C left = end - t;
  for (;;) {
    const C s = c.crossing(t, v, i, left, v_end);
    if (!(s <= left)) return true;
    Passed<C> d = c.after(s);
    const C at = t + s;
    t = at < end ? at : end;
    i *= d.syn, v = 0;
    if (!record.add(count, t, (i - c.threshold) * c.inverse_mem)) return false;
    left = end - t;
    d = c.after(left);
    v_end = i * d.response, i_end = i * d.syn;
    if (stops && count >= record.S) return true;
  }
}

// Neurons n0 ... n0 + lanes of sample b, without recurrence; w points to the weights of neuron n0, `stride` apart from
// one input to the next.
template <class C, int kLanes>
SNNFAST_HD void run_feedforward(const EventPropForward& f, const EventPropConstants<C>& c, int64_t b, int64_t n0,
                                int64_t lanes, int64_t row, const C* w, int64_t stride) {
  const EventProp& a = f.a;
  const int64_t E = a.inputs.N, kept = a.inputs.counts[2 * row];  // before t_max
  const C* times = static_cast<const C*>(a.inputs.times) + row * E;
  const int32_t* order = a.inputs.order + row * E;
  C v[kLanes], i[kLanes], v_end[kLanes], i_end[kLanes];
  int32_t count[kLanes];
  for (int64_t l = 0; l < lanes; l++) v[l] = i[l] = 0, count[l] = 0, Record<C>(f, b, n0 + l).clear();
  C t = 0;
  for (int64_t e = 0; e <= kept; e++) {
    const C next = e < kept ? times[e] : static_cast<C>(a.t_max);
    const int32_t number = e < kept ? order[e] : -1;
    if (next > t) {
      const Passed<C> d = c.after(next - t);
      int32_t look = 0;
      for (int64_t l = 0; l < lanes; l++) {
        v_end[l] = v[l] * d.mem + i[l] * d.response, i_end[l] = i[l] * d.syn;
        look |= c.may_cross(v[l], i[l], v_end[l], i_end[l]);
      }
      for (int64_t l = 0; look && l < lanes; l++) {
        if (!c.may_cross(v[l], i[l], v_end[l], i_end[l]) || count[l] < 0) continue;
        if (a.stops && count[l] >= a.S) continue;
        const Record<C> record(f, b, n0 + l);
        const C v0 = v[l], i0 = i[l];
        if (!fire_within(c, record, count[l], t, next, v0, i0, v_end[l], i_end[l], a.stops))
          record.overflow(), count[l] = -1;
      }
    } else {
      for (int64_t l = 0; l < lanes; l++) v_end[l] = v[l], i_end[l] = i[l];
    }
    if (a.return_u_max)
      for (int64_t l = 0; l < lanes; l++)
        if (count[l] == 0) Record<C>(f, b, n0 + l).look_at_peak(c, t, v[l], i[l], next, v_end[l], i_end[l], number);
    for (int64_t l = 0; l < lanes; l++) v[l] = v_end[l], i[l] = i_end[l];
    t = next;
    if (number < 0) break;
    const C* weights = w + number / a.S_in * stride;
    for (int64_t l = 0; l < lanes; l++) i[l] += weights[l];
  }
  for (int64_t l = 0; l < lanes; l++) Record<C>(f, b, n0 + l).finish(c, count[l]);
}

// ---- recurrent neurons

// Spikes under way, the next to arrive first; `place`: number of targets already reached.
template <class C>
struct UnderWay {
  C time;
  int32_t spike, place;
};

template <class C>
SNNFAST_HD bool earlier(const UnderWay<C>& a, const UnderWay<C>& b) {
  return a.time < b.time || (a.time == b.time && a.spike < b.spike);
}

template <class C>
SNNFAST_HD void sift_down(UnderWay<C>* heap, int64_t size) {
  const UnderWay<C> moved = heap[0];
  int64_t at = 0;
  for (int64_t child = 1; child < size; child = 2 * at + 1) {
    if (child + 1 < size && earlier(heap[child + 1], heap[child])) child++;
    if (!earlier(heap[child], moved)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = moved;
}

template <class C>
SNNFAST_HD void push(UnderWay<C>* heap, int64_t size, const UnderWay<C>& added) {
  int64_t at = size;
  for (; at > 0 && earlier(added, heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
  heap[at] = added;
}

template <class C>
struct RecurrentMemory {
  C *v, *i, *v_end, *i_end, *wait;
  int32_t *count, *size;
  UnderWay<C>* heap;
  int64_t bytes;

  SNNFAST_HD RecurrentMemory(const EventProp& a, void* memory) {
    Arena arena(static_cast<char*>(memory));
    v = arena.take<C>(a.N), i = arena.take<C>(a.N);
    v_end = arena.take<C>(a.N), i_end = arena.take<C>(a.N), wait = arena.take<C>(a.N);
    count = arena.take<int32_t>(a.N), size = arena.take<int32_t>(1);
    heap = arena.take<UnderWay<C>>(a.waits.times ? a.N * a.S : 0);
    bytes = arena.used();
  }
};

// A team of one thread; in csrc/cuda the team is a block of threads.
struct Alone {
  static constexpr int64_t rank = 0, size = 1;
  void meet() const {}
  template <class C>
  C least(C x) const {
    return x;
  }
};

// Sample b, step by step to the next arrival or the first spike of any neuron.
template <class C, class Team>
SNNFAST_HD void run_recurrent(const EventPropForward& f, const EventPropConstants<C>& c, int64_t b, const Team& team) {
  const EventProp& a = f.a;
  const RecurrentMemory<C> m(a, static_cast<char*>(f.memory) + b * RecurrentMemory<C>(a, nullptr).bytes);
  const int64_t N = a.N, E = a.I * a.S_in, row = a.inputs.N, kept = a.inputs.counts[2 * b];
  const C* times = static_cast<const C*>(a.inputs.times) + b * row;
  const int32_t* order = a.inputs.order + b * row;
  const C *w_in = static_cast<const C*>(a.w_in), *w_rec = static_cast<const C*>(a.w_rec);
  const C* waits = static_cast<const C*>(a.waits.times);
  const C end = static_cast<C>(a.t_max);
  for (int64_t n = team.rank; n < N; n += team.size) {
    m.v[n] = m.i[n] = 0, m.count[n] = 0;
    Record<C>(f, b, n).clear();
  }
  if (team.rank == 0) *m.size = 0;
  team.meet();
  C t = 0;
  bool full = false;
  for (int64_t p = 0;;) {
    const C of_input = p < kept ? times[p] : kNever<C>, of_spike = *m.size > 0 ? m.heap[0].time : kNever<C>;
    const C arrival = of_input <= of_spike ? of_input : of_spike, next = arrival < end ? arrival : end;
    Passed<C> d = c.after(next - t);
    C first = kNever<C>;
    for (int64_t n = team.rank; n < N; n += team.size) {
      m.v_end[n] = m.v[n] * d.mem + m.i[n] * d.response, m.i_end[n] = m.i[n] * d.syn;
      m.wait[n] = kNever<C>;
      if (!c.may_cross(m.v[n], m.i[n], m.v_end[n], m.i_end[n]) || (a.stops && m.count[n] >= a.S)) continue;
      m.wait[n] = c.crossing(t, m.v[n], m.i[n], next - t, m.v_end[n]);
      first = m.wait[n] < first ? m.wait[n] : first;
    }
    first = team.least(first);
    const bool fires = first <= next - t;
    C to = next;
    int32_t number = -1;  // of the next arrival
    if (fires) {
      d = c.after(first);
      to = t + first < next ? t + first : next;
      for (int64_t n = 0; n < N; n++) {
        if (m.wait[n] != first) continue;
        full |= m.count[n] >= a.S;
        if (!waits && number < 0) number = static_cast<int32_t>(E + n * a.S + m.count[n]);
      }
      if (full) break;
    } else if (arrival < end) {
      number = static_cast<int32_t>(of_input <= of_spike ? order[p] % E : E + m.heap[0].spike);
    }
    team.meet();
    for (int64_t n = team.rank; n < N; n += team.size) {
      if (fires) m.v_end[n] = m.v[n] * d.mem + m.i[n] * d.response, m.i_end[n] = m.i[n] * d.syn;
      const Record<C> record(f, b, n);
      if (a.return_u_max && m.count[n] == 0 && !(fires && m.wait[n] == first))
        record.look_at_peak(c, t, m.v[n], m.i[n], to, m.v_end[n], m.i_end[n], number);
      m.v[n] = m.v_end[n], m.i[n] = m.i_end[n];
      if (fires && m.wait[n] == first) {
        m.v[n] = 0;
        record.add(m.count[n], to, (m.i[n] - c.threshold) * c.inverse_mem);
      }
    }
    t = to;
    team.meet();
    if (fires) {
      for (int64_t n = 0; n < N; n++) {
        if (m.wait[n] != first) continue;
        for (int64_t k = team.rank; !waits && k < N; k += team.size) m.i[k] += w_rec[n * N + k];
        if (waits && team.rank == 0)
          push(m.heap, (*m.size)++, {t + waits[n * N], static_cast<int32_t>(n * a.S + m.count[n] - 1), 0});
      }
    } else if (!(arrival < end)) {
      break;
    } else if (of_input <= of_spike) {
      const int64_t at = order[p++], only = a.rows_of_neurons ? at / E : -1;
      const C* weights = w_in + at % E / a.S_in * N;
      for (int64_t n = team.rank; n < N; n += team.size)
        if (only < 0 || n == only) m.i[n] += weights[n];
    } else {
      const UnderWay<C> arriving = m.heap[0];
      const int64_t from = arriving.spike / a.S, target = a.waits.order[from * N + arriving.place];
      team.meet();
      if (team.rank == 0) {
        m.i[target] += w_rec[from * N + target];
        const C fired = static_cast<const C*>(f.t_out)[b * N * a.S + arriving.spike];
        const int32_t place = arriving.place + 1;
        if (place < N)
          m.heap[0] = {fired + waits[from * N + place], arriving.spike, place};
        else
          m.heap[0] = m.heap[--*m.size];
        sift_down(m.heap, *m.size);
      }
    }
    team.meet();
  }
  for (int64_t n = team.rank; n < N; n += team.size) {
    const Record<C> record(f, b, n);
    record.finish(c, m.count[n]);
    if (full) record.overflow();
  }
}

// ---- backward

// The spikes of one neuron, or the peak of a silent one, with the adjoints of v before each and of i.
template <class C>
struct Anchors {
  C *time, *by_potential, *by_current;
  const C* slope;
  int64_t count;

  SNNFAST_HD Anchors(const EventPropBackward& f, int64_t b, int64_t n) {
    const int64_t at = (b * f.a.N + n) * f.a.S;
    time = static_cast<C*>(f.time) + at, slope = static_cast<const C*>(f.slope) + at;
    by_potential = static_cast<C*>(f.by_potential) + at, by_current = static_cast<C*>(f.by_current) + at;
    count = 0;
    while (count < f.a.S && time[count] < kNever<C>) count++;
  }
  // Sets the adjoints of spike k; `g` is the derivative of the loss by its time with later spikes fixed. Later spikes
  // depend on that time by the reset, from which their potential starts.
  SNNFAST_HD void set(const EventPropConstants<C>& c, int64_t k, C g) const {
    C current = 0;
    if (k + 1 < count) {
      const Passed<C> d = c.after(time[k + 1] - time[k]);
      current = by_potential[k + 1] * d.response + by_current[k + 1] * d.syn;
      g -= by_potential[k + 1] * d.mem * (c.threshold * c.inverse_mem + slope[k]);
    }
    by_potential[k] = -g / (slope[k] > c.bound ? slope[k] : c.bound), by_current[k] = current;
  }
  // The first spike after an arrival; one at the same time came before it.
  SNNFAST_HD int64_t after(C arrival) const {
    int64_t low = 0, high = count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (time[middle] > arrival)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
};

// Derivatives of the loss by a weight, by the time of an arrival of weight 1, and by the potential, `s` before a spike.
template <class C>
struct Pull {
  C weight, time, potential;
};

template <class C>
SNNFAST_HD Pull<C> pull(const EventPropConstants<C>& c, C by_potential, C by_current, C s) {
  const Passed<C> d = c.after(s);
  return {by_potential * d.response + by_current * d.syn,
          by_current * d.syn * c.inverse_syn - by_potential * (d.syn - d.response) * c.inverse_mem,
          by_potential * d.mem};
}

template <class C>
SNNFAST_HD Pull<C> pull(const EventPropConstants<C>& c, const Anchors<C>& anchors, C arrival) {
  const int64_t k = anchors.after(arrival);
  if (k >= anchors.count) return {0, 0, 0};
  return pull(c, anchors.by_potential[k], anchors.by_current[k], anchors.time[k] - arrival);
}

// Derivative of the loss by the time of the arrival that ends a silent neuron's rise to its peak; 0 for other arrivals.
template <class C>
SNNFAST_HD C kink(const EventPropBackward& f, int64_t b, int64_t n, int64_t number) {
  const int64_t i = b * f.a.N + n;
  if (!f.grad_u || f.source[i] != number || static_cast<const C*>(f.t_out)[i * f.a.S] != kNever<C>) return 0;
  return static_cast<const C*>(f.grad_u)[i] * static_cast<const C*>(f.slope)[i * f.a.S];
}

template <class C>
SNNFAST_HD C arrival_of(const EventPropBackward& f, int64_t b, int64_t n, int64_t e) {
  const int64_t E = f.a.I * f.a.S_in;
  return static_cast<const C*>(f.arrivals)[(f.a.rows_of_neurons ? b * f.a.N + n : b) * E + e];
}

// Time at which spike k of neuron `from` arrives at n.
template <class C>
SNNFAST_HD C arrival_from(const EventPropBackward& f, int64_t b, int64_t n, int64_t from, int64_t k) {
  const C fired = static_cast<const C*>(f.t_out)[(b * f.a.N + from) * f.a.S + k];
  return f.delays_rec ? fired + static_cast<const C*>(f.delays_rec)[n * f.a.N + from] : fired;
}

template <class C>
SNNFAST_HD C grad_of_spike(const EventPropBackward& f, int64_t b, int64_t n, int64_t k) {
  return f.grad_t ? static_cast<const C*>(f.grad_t)[(b * f.a.N + n) * f.a.S + k] : C(0);
}

// Sets the times of a neuron's anchors; for a silent neuron also the adjoints.
template <class C>
SNNFAST_HD void find_anchors(const EventPropBackward& f, int64_t b, int64_t n) {
  const int64_t i = b * f.a.N + n;
  const C* t_out = static_cast<const C*>(f.t_out) + i * f.a.S;
  C* time = static_cast<C*>(f.time) + i * f.a.S;
  for (int64_t k = 0; k < f.a.S; k++) time[k] = t_out[k];
  if (!f.grad_u || time[0] < kNever<C> || time[0] != time[0]) return;
  const C peak = static_cast<const C*>(f.peak)[i];
  if (!(peak >= 0)) return;
  time[0] = peak;
  static_cast<C*>(f.by_potential)[i * f.a.S] = static_cast<const C*>(f.grad_u)[i];
  static_cast<C*>(f.by_current)[i * f.a.S] = 0;
}

// Sets the adjoints of all spikes of a neuron without recurrence.
template <class C>
SNNFAST_HD void set_anchors(const EventPropBackward& f, const EventPropConstants<C>& c, int64_t b, int64_t n) {
  find_anchors<C>(f, b, n);
  if (!(static_cast<const C*>(f.t_out)[(b * f.a.N + n) * f.a.S] < kNever<C>)) return;
  const Anchors<C> anchors(f, b, n);
  for (int64_t k = anchors.count - 1; k >= 0; k--) anchors.set(c, k, grad_of_spike<C>(f, b, n, k));
}

// The same for sample b with recurrence, from the last spike to the first. `left` [N]: spikes still to process.
template <class C, class Team>
SNNFAST_HD void set_recurrent_anchors(const EventPropBackward& f, const EventPropConstants<C>& c, int64_t b,
                                      int32_t* left, const Team& team) {
  const int64_t N = f.a.N, S = f.a.S, E = f.a.I * f.a.S_in;
  const C *w = static_cast<const C*>(f.w_out), *t_out = static_cast<const C*>(f.t_out) + b * N * S;
  for (int64_t n = team.rank; n < N; n += team.size) {
    find_anchors<C>(f, b, n);
    left[n] = t_out[n * S] < kNever<C> ? static_cast<int32_t>(Anchors<C>(f, b, n).count) : 0;
  }
  team.meet();
  for (;;) {
    C latest = -kNever<C>;
    for (int64_t n = 0; n < N; n++)
      if (left[n] > 0 && t_out[n * S + left[n] - 1] > latest) latest = t_out[n * S + left[n] - 1];
    if (!(latest >= 0)) return;
    team.meet();
    // Simultaneous spikes do not influence each other.
    for (int64_t from = team.rank; from < N; from += team.size) {
      const int64_t k = left[from] - 1;
      if (k < 0 || t_out[from * S + k] != latest) continue;
      C g = grad_of_spike<C>(f, b, from, k);
      for (int64_t n = 0; n < N; n++) {
        const C arrival = arrival_from<C>(f, b, n, from, k);
        g += w[n * N + from] * pull(c, Anchors<C>(f, b, n), arrival).time + kink<C>(f, b, n, E + from * S + k);
      }
      Anchors<C>(f, b, from).set(c, k, g);
    }
    team.meet();
    for (int64_t n = team.rank; n < N; n += team.size)
      if (left[n] > 0 && t_out[n * S + left[n] - 1] == latest) left[n]--;
    team.meet();
  }
}

// Gradients by the weight and the delay from neuron `from` to neuron n.
template <class C>
SNNFAST_HD void sum_recurrent(const EventPropBackward& f, const EventPropConstants<C>& c, int64_t n, int64_t from) {
  C by_weight = 0, by_delay = 0;
  const int64_t N = f.a.N, S = f.a.S, E = f.a.I * f.a.S_in;
  for (int64_t b = 0; b < f.a.B; b++) {
    const Anchors<C> anchors(f, b, n);
    for (int64_t k = 0; k < S; k++) {
      const C arrival = arrival_from<C>(f, b, n, from, k);
      if (!(arrival < kNever<C>)) break;
      const Pull<C> p = pull(c, anchors, arrival);
      by_weight += p.weight;
      by_delay += static_cast<const C*>(f.w_out)[n * N + from] * p.time + kink<C>(f, b, n, E + from * S + k);
    }
  }
  if (f.grad_w_rec) static_cast<C*>(f.grad_w_rec)[n * N + from] = by_weight;
  if (f.grad_delays_rec) static_cast<C*>(f.grad_delays_rec)[n * N + from] = by_delay;
}

}  // namespace
}  // namespace snnfast
