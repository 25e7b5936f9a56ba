// Neurons are SIMD lanes, in blocks whose weights are contiguous for each event. The block is the outer loop, so that
// its weights stay in the caches, and a sample ends when all lanes have fired. Crossings are only recorded when found;
// the spike times are then solved for the whole block together.
#include "core/spikeprop.h"

#include "cpu/lanes.h"
#include "cpu/spikeprop_backward.h"
#include "cpu/spikeprop_events.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int kMaxLanes = 32;

template <class C>
using Lanes = C[kMaxLanes];

// Crossing or largest potential of each lane: the potential at the beginning of an interval, and the time since.
template <class C>
struct Found {
  alignas(64) Lanes<C> q, p, after, top, time;
  alignas(64) Lanes<int32_t> interval;
};

// One block of neurons and one sample.
template <class C>
struct Site {
  const SpikePropEvents& events;
  const SpikePropConstants<C>& constants;
  const C* w;            // [N, lanes]
  const int32_t* order;  // of the sample
  const C* times;
  int64_t n, stored, intervals, lanes;
  Intervals<C> v;
  Grid<C> grid;
  int64_t first_point;
};

// Adds the weights of the events [begin, end) to p; four independent sums if many events are simultaneous.
template <class V, int NV, class C>
inline void add_weights(const Site<C>& s, int64_t begin, int64_t end, V* p) {
  constexpr int L = NV * static_cast<int>(sizeof(V) / sizeof(C));
  const auto row = [&](int64_t e) { return reinterpret_cast<const V*>(s.w + static_cast<int64_t>(s.order[e]) * L); };
  int64_t e = begin;
  if (end - begin >= 8) {
    V x[NV], y[NV], z[NV];
    for (int k = 0; k < NV; k++) x[k] = row(e)[k], y[k] = row(e + 1)[k], z[k] = row(e + 2)[k];
    for (e += 3; e + 4 <= end; e += 4) {
      const V *a = row(e), *b = row(e + 1), *c = row(e + 2), *d = row(e + 3);
      for (int k = 0; k < NV; k++) p[k] += a[k], x[k] += b[k], y[k] += c[k], z[k] += d[k];
    }
    for (int k = 0; k < NV; k++) p[k] += (x[k] + y[k]) + z[k];
  }
  for (; e < end; e++) {
    const V* a = row(e);
    for (int k = 0; k < NV; k++) p[k] += a[k];
  }
}

template <int NV, class V>
inline uint32_t all_at_least(const V* a, const V& bound) {
  uint32_t bits = 0;
  for (int k = 0; k < NV; k++) bits |= at_least(a[k], bound) << (k * static_cast<int>(sizeof(V) / sizeof(a[0][0])));
  return bits;
}

template <class C>
inline void note(Found<C>& f, uint32_t lanes, const C* q, const C* p, C after, C time, int64_t interval) {
  for (; lanes; lanes &= lanes - 1) {
    const int l = __builtin_ctz(lanes);
    f.q[l] = q[l], f.p[l] = p[l], f.after[l] = after, f.time[l] = time, f.interval[l] = static_cast<int32_t>(interval);
  }
}

// Processes the events until all lanes of `alive` have fired; returns those that have not.
template <class C, int NV>
uint32_t find_crossings(const Site<C>& s, uint32_t alive, Found<C>& f) {
  typedef typename Vectors<C>::Type V;
  const SpikePropConstants<C>& c = s.constants;
  V q[NV] = {}, p[NV] = {}, u[NV];
  alignas(64) C qs[kMaxLanes], ps[kMaxLanes];
  const auto store = [&] {
    for (int k = 0; k < NV; k++) reinterpret_cast<V*>(qs)[k] = q[k], reinterpret_cast<V*>(ps)[k] = p[k];
  };
  const V threshold = V{} + c.threshold;
  int64_t point = s.first_point;
  for (int64_t g = 0, e = 0; g < s.intervals; g++) {
    add_weights<V, NV>(s, e, s.v.end[g], p);
    e = s.v.end[g];
    if (s.events.grid_points) {
      for (; point < s.grid.end[g]; point++) {
        for (int k = 0; k < NV; k++) u[k] = (q[k] + p[k] * s.grid.after[point]) * s.grid.decay[point];
        const uint32_t fired = all_at_least<NV>(u, threshold) & alive;
        if (__builtin_expect(fired != 0, 0)) {
          store();
          note(f, fired, qs, ps, s.grid.after[point], s.grid.time[point], g);
          alive &= ~fired;
          if (!alive) return 0;
        }
      }
    }
    for (int k = 0; k < NV; k++) u[k] = q[k] + p[k] * s.v.length[g];
    if (!s.events.grid_points) {
      const uint32_t candidates = all_at_least<NV>(u, V{} + s.v.bound[g]) & alive;
      if (__builtin_expect(candidates != 0, 0)) {
        store();
        V at_end[NV];
        for (int k = 0; k < NV; k++) at_end[k] = u[k] * s.v.decay[g];
        uint32_t fired = all_at_least<NV>(at_end, threshold) & candidates;
        for (uint32_t rest = candidates & ~fired; rest; rest &= rest - 1) {
          const int l = __builtin_ctz(rest);
          if (!(ps[l] > 0)) continue;
          const C top = spikeprop_top(qs[l], ps[l], s.v.length[g], c.tau);
          if (top > 0 && spikeprop_potential(qs[l], ps[l], top, c.inverse_tau) >= c.threshold)
            fired |= uint32_t{1} << l;
        }
        note(f, fired, qs, ps, C(0), s.v.begin[g], g);
        alive &= ~fired;
        if (!alive) return 0;
      }
    }
    for (int k = 0; k < NV; k++) q[k] = u[k] * s.v.decay[g], p[k] = p[k] * s.v.decay[g];
  }
  return alive;
}

// Time of the crossing since the beginning of the interval, for the lanes of `fired`.
template <class C, int L>
void solve(const Site<C>& s, uint32_t fired, Found<C>& f) {
  const SpikePropConstants<C>& c = s.constants;
  for (int l = 0; l < L; l++) {
    if (fired >> l & 1) {
      f.top[l] = f.q[l] < c.threshold ? spikeprop_top(f.q[l], f.p[l], s.v.length[f.interval[l]], c.tau) : C(0);
    } else {
      f.q[l] = c.threshold, f.p[l] = 1, f.top[l] = f.after[l] = f.time[l] = 0;
    }
  }
  for (int step = 0; step < kSpikePropSteps; step++) {
    C farthest = 0;
#pragma omp simd reduction(max : farthest)
    for (int l = 0; l < L; l++) {
      const C next = spikeprop_newton(f.q[l], f.p[l], f.after[l], f.top[l], c);
      const C moved = (next - f.after[l]) - kSpikePropRounding<C> * (f.time[l] + next);
      f.after[l] = next;
      farthest = moved > farthest ? moved : farthest;
    }
    if (!(farthest > 0)) break;
  }
  for (int l = 0; l < L; l++) f.time[l] += f.after[l];
}

// The last of the largest potentials of the lanes in `silent`, and the number of events before it.
template <class C, int NV>
void find_peaks(const Site<C>& s, uint32_t silent, Found<C>& f, C* largest, int32_t* before, C* slope) {
  typedef typename Vectors<C>::Type V;
  constexpr int L = NV * Vectors<C>::kLanes;
  const SpikePropConstants<C>& c = s.constants;
  alignas(64) C q[kMaxLanes] = {}, p[kMaxLanes] = {};
  for (int l = 0; l < L; l++) largest[l] = slope[l] = f.time[l] = 0, before[l] = 0, f.interval[l] = -1;
  const auto offer = [&](int l, C u, C after, C time, int64_t g) {
    if (!(silent >> l & 1) || !(u > 0 && u >= largest[l])) return;
    largest[l] = u, f.q[l] = q[l], f.p[l] = p[l], f.after[l] = after, f.time[l] = time,
    f.interval[l] = static_cast<int32_t>(g);
  };
  int64_t point = s.first_point;
  for (int64_t g = 0, e = 0; g < s.intervals; g++) {
    const C length = s.v.length[g], decay = s.v.decay[g];
    add_weights<V, NV>(s, e, s.v.end[g], reinterpret_cast<V*>(p));
    e = s.v.end[g];
    if (s.events.grid_points) {
      for (; point < s.grid.end[g]; point++)
        for (int l = 0; l < L; l++)
          offer(l, (q[l] + p[l] * s.grid.after[point]) * s.grid.decay[point], s.grid.after[point], s.grid.time[point],
                g);
    } else {
      for (int l = 0; l < L; l++) {
        if (!(p[l] * c.tau > (q[l] > 0 ? q[l] : C(0)))) continue;  // the potential falls from here on
        const C top = spikeprop_top(q[l], p[l], length, c.tau);
        if (top < length)
          offer(l, spikeprop_potential(q[l], p[l], top, c.inverse_tau), top, s.v.begin[g] + top, g);
        else
          offer(l, (q[l] + p[l] * length) * decay, length, s.v.begin[g + 1], g);
      }
    }
    for (int l = 0; l < L; l++) q[l] = (q[l] + p[l] * length) * decay, p[l] = p[l] * decay;
  }
  for (uint32_t rest = silent; rest; rest &= rest - 1) {
    const int l = __builtin_ctz(rest);
    const int64_t g = f.interval[l];
    if (g < 0) continue;
    before[l] = s.v.end[g];
    const bool at_end = f.after[l] == s.v.length[g];
    if (s.events.grid_points || at_end) slope[l] = spikeprop_slope(f.q[l], f.p[l], f.after[l], c.inverse_tau) * c.scale;
    if (s.events.grid_points || !at_end || g + 1 == s.intervals) continue;
    // Among simultaneous events, the rise ends with the one after which the potential falls.
    C risen = f.p[l] * s.v.decay[g];
    for (int64_t e = s.v.end[g]; e + 1 < s.v.end[g + 1]; e++) {
      risen += s.w[static_cast<int64_t>(s.order[e]) * L + l];
      if (risen * c.tau > largest[l])
        before[l] = static_cast<int32_t>(e + 1), slope[l] = (risen - largest[l] * c.inverse_tau) * c.scale;
    }
  }
}

template <class C>
Site<C> site_of(const SpikePropEvents& a, const SpikePropConstants<C>& c, const SpikePropMemory<C>& m, int64_t block,
                int64_t b) {
  return {a,
          c,
          m.packed + block * a.N * m.lanes,
          a.order + b * a.N,
          static_cast<const C*>(a.times) + b * a.N,
          a.counts[2 * b],
          a.counts[2 * b + 1],
          m.counts[b],
          m.lanes,
          m.intervals_of(a, b),
          m.grid_of(a, b),
          m.first_points[b]};
}

template <class C, int NV>
void fire(const SpikePropForward& a, const SpikePropConstants<C>& c, const SpikePropMemory<C>& m, int64_t block,
          int64_t b) {
  constexpr int L = NV * Vectors<C>::kLanes;
  const SpikePropEvents& events = a.events;
  const Site<C> s = site_of(events, c, m, block, b);
  const int64_t j0 = block * L, rows = min(events.O - j0, L);
  const uint32_t all = rows == 32 ? ~uint32_t{0} : (uint32_t{1} << rows) - 1;
  Found<C> f;
  const uint32_t silent = find_crossings<C, NV>(s, all, f), fired = all & ~silent;
  if (!events.grid_points) solve<C, L>(s, fired, f);
  const int64_t row = b * events.O + j0;
  C *t_out = static_cast<C*>(a.t_out) + row, *slope = static_cast<C*>(a.slope) + row;
  int32_t* before = a.before + row;
  alignas(64) Lanes<C> largest, peak_slope;
  alignas(64) Lanes<int32_t> peak_before;
  Found<C> peaks;
  if (events.return_u_max && silent) find_peaks<C, NV>(s, silent, peaks, largest, peak_before, peak_slope);
  for (int64_t l = 0; l < rows; l++) {
    if (fired >> l & 1) {
      t_out[l] = f.time[l];
      slope[l] = spikeprop_slope(f.q[l], f.p[l], f.after[l], c.inverse_tau) * c.scale;
      before[l] = s.v.end[f.interval[l]];
    } else {
      t_out[l] = kInfinity<C>;
      slope[l] = events.return_u_max ? peak_slope[l] : kInfinity<C>;
      before[l] = events.return_u_max ? peak_before[l] : 0;
    }
  }
  if (!events.return_u_max) return;
  C *u_max = static_cast<C*>(a.u_max) + row, *time = static_cast<C*>(a.time) + row;
  for (int64_t l = 0; l < rows; l++) {
    u_max[l] = fired >> l & 1 ? static_cast<C>(events.v_threshold) : largest[l] * c.scale;
    time[l] = fired >> l & 1 ? f.time[l] : peaks.time[l];
  }
}

// Before all blocks: sorting of the events, intervals, packing of the weights.

template <class C>
void sort_samples(const SpikePropForward& a, char* memory, int64_t begin, int64_t end, void* scratch) {
  const SpikePropEvents& events = a.events;
  const SpikePropMemory<C> m(events, false, memory);
  const SortMemory<C> sorting(scratch, events.N);
  const Range<C> delays = delay_range<C>(events);
  for (int64_t b = begin; b < end; b++) {
    C* times = static_cast<C*>(events.times) + b * events.N;
    int32_t* order = events.order + b * events.N;
    const C* t_in = static_cast<const C*>(events.t_in) + b * events.I;
    const Range<C> input = input_range(events, t_in, &m.problems[b]);
    const int64_t stored = list_events(events, t_in, delays.high, sorting);
    sort_events(stored, input.low + delays.low, input.high + delays.high, sorting, times, order);
    for (int64_t e = stored; e < events.N; e++) times[e] = kInfinity<C>, order[e] = -1;
    int64_t n = stored;
    while (n > 0 && !(times[n - 1] < static_cast<C>(events.t_max))) n--;
    events.counts[2 * b] = static_cast<int32_t>(n), events.counts[2 * b + 1] = static_cast<int32_t>(stored);
    const Intervals<C> v = m.intervals_of(events, b);
    const int64_t intervals = find_intervals<false>(events, b, v);
    m.counts[b] = static_cast<int32_t>(intervals);
    if (events.grid_points)
      m.first_points[b] = static_cast<int32_t>(find_grid(events, v, intervals, m.grid_of(events, b)));
  }
}

template <class C>
void mark_used(const SpikePropEvents& a, const SpikePropMemory<C>& m) {
  bool all = false;  // whether one sample has all events
  for (int64_t b = 0; b < a.B; b++) all |= a.counts[2 * b + 1] == a.N;
  __builtin_memset(m.used, all, static_cast<size_t>(a.N));
  if (all) return;
  for (int64_t b = 0; b < a.B; b++)
    for (int64_t e = 0; e < a.counts[2 * b + 1]; e++) m.used[a.order[b * a.N + e]] = 1;
}

// Packs the weights of the events of any sample, contiguous for the neurons of a block.
template <class C>
void pack_blocks(const SpikePropEvents& a, const void* weights, const SpikePropMemory<C>& m, int64_t begin,
                 int64_t end) {
  constexpr int64_t kTile = 16;
  const C* w = static_cast<const C*>(weights);
  for (int64_t block = begin; block < end; block++) {
    C* packed = m.packed + block * a.N * m.lanes;
    const int64_t j0 = block * m.lanes, rows = min(a.O - j0, m.lanes);
    for (int64_t i0 = 0; i0 < a.N; i0 += kTile) {
      const int64_t last = min(i0 + kTile, a.N);
      for (int64_t i = i0; i < last; i++) {
        if (!m.used[i]) continue;
        C* row = packed + i * m.lanes;
        for (int64_t l = 0; l < rows; l++) row[l] = w[(j0 + l) * a.N + i];
        for (int64_t l = rows; l < m.lanes; l++) row[l] = 0;
      }
    }
  }
}

template <class C>
void fire_blocks(const SpikePropForward& a, char* memory, int64_t begin, int64_t end) {
  const SpikePropMemory<C> m(a.events, false, memory);
  const SpikePropConstants<C> c(a.events);
  constexpr int kNarrow = 64 / kVectorBytes;
  for (int64_t item = begin; item < end; item++) {
    const int64_t block = item / a.events.B, b = item % a.events.B;
    if (m.lanes * sizeof(C) == 64)
      fire<C, kNarrow>(a, c, m, block, b);
    else
      fire<C, 2 * kNarrow>(a, c, m, block, b);
  }
}

template <class C>
int32_t status_of(const SpikePropForward& a, char* memory) {
  const SpikePropEvents& events = a.events;
  const SpikePropMemory<C> m(events, false, memory);
  int32_t status = 0;
  for (int64_t b = 0; b < events.B; b++) status |= m.problems[b];
  const C* delays = static_cast<const C*>(events.delays);
  const int64_t count = events.delay_stride ? events.N : events.K;
  for (int64_t k = 0; k < count; k++)
    if (!(delays[k] >= 0 && delays[k] < kInfinity<C>)) status |= kBadDelay;
  const double tau = spikeprop_tau<C>(events);
  if (!(tau > 0 && tau < kInfinity<double>)) status |= kBadTau;
  const C* t_out = static_cast<const C*>(a.t_out);
  for (int64_t i = 0; i < events.B * events.O; i++)
    if (t_out[i] < kInfinity<C>) return status | kFired;
  return status;
}

template <class C>
SpikePropSizes sizes_of(const SpikePropEvents& a, bool backward) {
  const SpikePropMemory<C> m(a, backward, nullptr);
  return {m.bytes, SortMemory<C>::bytes(a.N), a.N * m.lanes * static_cast<int64_t>(sizeof(C)), m.blocks, m.pieces};
}

}  // namespace

void spikeprop_sizes(const SpikePropEvents& a, bool backward, SpikePropSizes* sizes) {
  *sizes = a.is_double ? sizes_of<double>(a, backward) : sizes_of<float>(a, backward);
}

void spikeprop_sort(const SpikePropForward& a, char* memory, int64_t begin, int64_t end, void* scratch) {
  a.events.is_double ? sort_samples<double>(a, memory, begin, end, scratch)
                     : sort_samples<float>(a, memory, begin, end, scratch);
}

void spikeprop_mark(const SpikePropEvents& a, bool backward, char* memory) {
  a.is_double ? mark_used<double>(a, {a, backward, memory}) : mark_used<float>(a, {a, backward, memory});
}

void spikeprop_pack(const SpikePropEvents& a, const void* w, bool backward, char* memory, int64_t begin, int64_t end) {
  a.is_double ? pack_blocks<double>(a, w, {a, backward, memory}, begin, end)
              : pack_blocks<float>(a, w, {a, backward, memory}, begin, end);
}

void spikeprop_fire(const SpikePropForward& a, char* memory, int64_t begin, int64_t end) {
  a.events.is_double ? fire_blocks<double>(a, memory, begin, end) : fire_blocks<float>(a, memory, begin, end);
}

void spikeprop_finish(const SpikePropForward& a, char* memory) {
  *a.status = a.events.is_double ? status_of<double>(a, memory) : status_of<float>(a, memory);
}

void spikeprop_intervals(const SpikePropBackward& a, char* memory, int64_t begin, int64_t end, bool* fits) {
  *fits = a.events.is_double ? find_all_intervals<double>(a, memory, begin, end)
                             : find_all_intervals<float>(a, memory, begin, end);
}

void spikeprop_sum_weights(const SpikePropBackward& a, char* memory, int64_t begin, int64_t end, void* scratch) {
  a.events.is_double ? sum_weights<double>(a, memory, begin, end, scratch)
                     : sum_weights<float>(a, memory, begin, end, scratch);
}

void spikeprop_sum_events(const SpikePropBackward& a, char* memory, int64_t begin, int64_t end, void* scratch) {
  a.events.is_double ? sum_events<double>(a, memory, begin, end, scratch)
                     : sum_events<float>(a, memory, begin, end, scratch);
}

void spikeprop_sum_all(const SpikePropBackward& a, char* memory) {
  a.events.is_double ? sum_all<double>(a, memory) : sum_all<float>(a, memory);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
