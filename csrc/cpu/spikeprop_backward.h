// Gradients of spike times, by the recursion of the forward pass in reverse: from the time of a neuron back to its
// first event, dq and dp hold the derivatives of its potential with respect to q and p of each interval, times the
// gradient of the loss. Events need no exponential, and nothing grows in long windows.
#pragma once
#include "core/spikeprop.h"
#include "cpu/lanes.h"
#include "cpu/spikeprop_events.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int kMaxWidth = 32;

// Start of the reverse recursion of the lanes of a block: an interval (-1: none), with these derivatives there.
template <class C>
struct Starts {
  alignas(64) C dq[kMaxWidth], dp[kMaxWidth], dr[kMaxWidth];  // with respect to q, p, and p times the time since
  alignas(64) int32_t interval[kMaxWidth];
  alignas(64) C weight[kMaxWidth];  // gradient of the loss with respect to the potential at that time
  uint32_t kinks;                   // lanes whose largest potential is at the next event, which lowers it
  int32_t last;
};

template <class C>
Starts<C> starts_of(const SpikePropBackward& a, const SpikePropConstants<C>& c, const Intervals<C>& v, int64_t b,
                    int64_t j0, int64_t rows) {
  const SpikePropEvents& events = a.events;
  const int64_t row = b * events.O + j0;
  const C *t_out = static_cast<const C*>(a.t_out) + row, *slope = static_cast<const C*>(a.slope) + row;
  const C* time = events.return_u_max ? static_cast<const C*>(a.time) + row : t_out;
  const C* grad_t = a.grad_t ? static_cast<const C*>(a.grad_t) + row : nullptr;
  const C* grad_u = a.grad_u && events.return_u_max ? static_cast<const C*>(a.grad_u) + row : nullptr;
  const C* times = static_cast<const C*>(events.times) + b * events.N;
  const C guard = static_cast<C>(a.slope_min * events.v_threshold / spikeprop_tau<C>(events));
  Starts<C> s = {};
  s.last = -1;
  for (int l = 0; l < kMaxWidth; l++) {
    s.interval[l] = -1;
    if (l >= rows || a.before[row + l] == 0) continue;
    const bool fired = t_out[l] < kInfinity<C>;
    const int32_t before = a.before[row + l];
    if (fired)
      s.weight[l] = grad_t ? -grad_t[l] / (slope[l] > guard ? slope[l] : guard) : C(0);
    else
      s.weight[l] = grad_u ? grad_u[l] : C(0);
    if (s.weight[l] == 0) continue;
    int32_t g = v.of_event[before - 1];
    if (!fired && !events.grid_points) {
      if (before < events.counts[2 * b + 1] && times[before] == time[l]) s.kinks |= uint32_t{1} << l;
      if (before != v.end[g]) g--;  // only some of the simultaneous events: they add no potential
    }
    s.interval[l] = g;
    if (g < 0) continue;
    const C after = time[l] - v.begin[g];
    s.dq[l] = s.weight[l] * c.scale * exp_nonpositive(-after * c.inverse_tau);
    s.dp[l] = s.dq[l] * after;
    s.dr[l] = s.dp[l] * after;
    s.last = g > s.last ? g : s.last;
  }
  return s;
}

// Goes back through the intervals; calls visit(begin, end, dq, dp, dr) for the events of each.
template <bool kWithTau, int NV, class C, class Visit>
inline void go_back(const Starts<C>& s, const Intervals<C>& v, const Visit& visit) {
  typedef typename Vectors<C>::Type V;
  constexpr int L = NV * Vectors<C>::kLanes;
  V dq[NV] = {}, dp[NV] = {}, dr[NV] = {};
  int32_t next = s.last;
  for (int32_t g = s.last; g >= 0; g--) {
    if (g == next) {
      alignas(64) C more_q[kMaxWidth], more_p[kMaxWidth], more_r[kMaxWidth];
      next = -1;
#pragma omp simd reduction(max : next)
      for (int l = 0; l < L; l++) {
        const bool starts = s.interval[l] == g;
        more_q[l] = starts ? s.dq[l] : C(0), more_p[l] = starts ? s.dp[l] : C(0), more_r[l] = starts ? s.dr[l] : C(0);
        const int32_t earlier = s.interval[l] < g ? s.interval[l] : -1;
        next = earlier > next ? earlier : next;
      }
      for (int k = 0; k < NV; k++) {
        dq[k] += reinterpret_cast<const V*>(more_q)[k], dp[k] += reinterpret_cast<const V*>(more_p)[k];
        if constexpr (kWithTau) dr[k] += reinterpret_cast<const V*>(more_r)[k];
      }
    }
    visit(g ? v.end[g - 1] : 0, v.end[g], dq, dp, dr);
    if (g == 0) break;
    const C length = v.length[g - 1], decay = v.decay[g - 1];
    for (int k = 0; k < NV; k++) {
      const V shifted = dq[k] * length;
      if constexpr (kWithTau) dr[k] = (dr[k] + (dp[k] + dp[k] + shifted) * length) * decay;
      dp[k] = (dp[k] + shifted) * decay;
      dq[k] = dq[k] * decay;
    }
  }
}

// Whether the tape of sample b refers only to existing events and neurons: a direct call may pass any tape.
inline bool fits(const SpikePropBackward& a, int64_t b) {
  const SpikePropEvents& events = a.events;
  const int32_t count = events.counts[2 * b], stored = events.counts[2 * b + 1];
  if (count < 0 || count > stored || stored > events.N) return false;
  const int32_t *order = events.order + b * events.N, *before = a.before + b * events.O;
  const uint32_t events_end = static_cast<uint32_t>(events.N), before_end = static_cast<uint32_t>(count) + 1;
  uint32_t outside = 0;
#pragma omp simd reduction(| : outside)
  for (int32_t e = 0; e < stored; e++) outside |= static_cast<uint32_t>(order[e]) >= events_end;
#pragma omp simd reduction(| : outside)
  for (int64_t j = 0; j < events.O; j++) outside |= static_cast<uint32_t>(before[j]) >= before_end;
  return !outside;
}

// Returns whether the tapes are valid.
template <class C>
bool find_all_intervals(const SpikePropBackward& a, char* memory, int64_t begin, int64_t end) {
  const SpikePropMemory<C> m(a.events, true, memory);
  for (int64_t b = begin; b < end; b++) {
    if (!fits(a, b)) return false;
    m.counts[b] = static_cast<int32_t>(find_intervals<true>(a.events, b, m.intervals_of(a.events, b)));
  }
  return true;
}

// ---- weights

// Sum over the samples [begin, end) of one block, [N, lanes].
template <class C, int NV>
void sum_of_samples(const SpikePropBackward& a, const SpikePropConstants<C>& c, const SpikePropMemory<C>& m,
                    int64_t block, int64_t begin, int64_t end, C* sum) {
  typedef typename Vectors<C>::Type V;
  constexpr int L = NV * Vectors<C>::kLanes;
  const SpikePropEvents& events = a.events;
  const int64_t j0 = block * L, rows = min(events.O - j0, L);
  __builtin_memset(sum, 0, static_cast<size_t>(events.N * L) * sizeof(C));
  for (int64_t b = begin; b < end; b++) {
    const int32_t* order = events.order + b * events.N;
    const Intervals<C> v = m.intervals_of(events, b);
    const Starts<C> s = starts_of(a, c, v, b, j0, rows);
    go_back<false, NV>(s, v, [&](int64_t first, int64_t last, const V*, const V* dp, const V*) {
      for (int64_t e = first; e < last; e++) {
        V* row = reinterpret_cast<V*>(sum + static_cast<int64_t>(order[e]) * L);
        for (int k = 0; k < NV; k++) row[k] += dp[k];
      }
    });
  }
}

template <class C>
void unpack(const SpikePropEvents& a, int64_t block, int64_t lanes, int64_t pieces, const C* sums, C* grad_w) {
  constexpr int64_t kTile = 16;
  const int64_t j0 = block * lanes, rows = min(a.O - j0, lanes), size = a.N * lanes;
  for (int64_t i0 = 0; i0 < a.N; i0 += kTile) {
    const int64_t width = min(a.N - i0, kTile);
    for (int64_t l = 0; l < rows; l++) {
      C* row = grad_w + (j0 + l) * a.N + i0;
      const C* from = sums + i0 * lanes + l;
      for (int64_t i = 0; i < width; i++) row[i] = from[i * lanes];
      for (int64_t piece = 1; piece < pieces; piece++)
        for (int64_t i = 0; i < width; i++) row[i] += from[piece * size + i * lanes];
    }
  }
}

// Items are pieces of blocks. With one piece per block, the sum is in scratch and complete.
template <class C>
void sum_weights(const SpikePropBackward& a, char* memory, int64_t begin, int64_t end, void* scratch) {
  const SpikePropMemory<C> m(a.events, true, memory);
  const SpikePropConstants<C> c(a.events);
  constexpr int kNarrow = 64 / kVectorBytes;
  for (int64_t item = begin; item < end; item++) {
    const int64_t block = item / m.pieces, piece = item % m.pieces;
    const int64_t first = piece * a.events.B / m.pieces, last = (piece + 1) * a.events.B / m.pieces;
    C* sum = m.pieces > 1 ? m.sums + item * a.events.N * m.lanes : static_cast<C*>(scratch);
    if (m.lanes * sizeof(C) == 64)
      sum_of_samples<C, kNarrow>(a, c, m, block, first, last, sum);
    else
      sum_of_samples<C, 2 * kNarrow>(a, c, m, block, first, last, sum);
    if (m.pieces == 1) unpack(a.events, block, m.lanes, 1, sum, static_cast<C*>(a.grad_w));
  }
}

// ---- times of events, and tau

template <class C, int NV, bool kWithTau>
void go_back_for_events(const SpikePropBackward& a, const SpikePropConstants<C>& c, const SpikePropMemory<C>& m,
                        int64_t b, C* sums, C* by_event) {
  typedef typename Vectors<C>::Type V;
  constexpr int L = NV * Vectors<C>::kLanes;
  const SpikePropEvents& events = a.events;
  const int64_t n = events.counts[2 * b];
  const int32_t* order = events.order + b * events.N;
  const Intervals<C> v = m.intervals_of(events, b);
  for (int64_t i = 0; i < events.N; i++) by_event[i] = 0;
  __builtin_memset(sums, 0, static_cast<size_t>(n * L) * sizeof(C));
  V by_tau[NV] = {};
  for (int64_t block = 0; block < m.blocks; block++) {
    const int64_t j0 = block * L, rows = min(events.O - j0, L);
    const C* w = m.packed + block * events.N * L;
    const Starts<C> s = starts_of(a, c, v, b, j0, rows);
    go_back<kWithTau, NV>(s, v, [&](int64_t first, int64_t last, const V* dq, const V* dp, const V* dr) {
      V moved[NV], slower[NV];
      for (int k = 0; k < NV; k++) {
        moved[k] = dp[k] * c.inverse_tau - dq[k];
        if constexpr (kWithTau) slower[k] = dr[k] * c.inverse_tau - dp[k];
      }
      for (int64_t e = first; e < last; e++) {
        const V* weights = reinterpret_cast<const V*>(w + static_cast<int64_t>(order[e]) * L);
        V* sum = reinterpret_cast<V*>(sums + e * L);
        for (int k = 0; k < NV; k++) {
          sum[k] += weights[k] * moved[k];
          if constexpr (kWithTau) by_tau[k] += weights[k] * slower[k];
        }
      }
    });
    // A largest potential at an event that lowers it moves with that event.
    for (uint32_t rest = s.kinks; rest; rest &= rest - 1) {
      const int l = __builtin_ctz(rest);
      const int32_t before = a.before[b * events.O + j0 + l];
      by_event[order[before]] += s.weight[l] * static_cast<const C*>(a.slope)[b * events.O + j0 + l];
      const int32_t g = v.of_event[before - 1];
      if (before == v.end[g]) continue;
      for (int32_t e = g ? v.end[g - 1] : 0; e < before; e++)
        by_event[order[e]] -= s.weight[l] * c.scale * w[static_cast<int64_t>(order[e]) * L + l];
    }
  }
  for (int64_t e = 0; e < n; e++) {
    alignas(64) C sum[L];
    for (int l = 0; l < L; l++) sum[l] = sums[e * L + l];
    for (int half = L / 2; half > 0; half /= 2)
      for (int l = 0; l < half; l++) sum[l] += sum[l + half];
    by_event[order[e]] += sum[0];
  }
  if constexpr (kWithTau) {
    double total = 0;
    for (int k = 0; k < NV; k++)
      for (int l = 0; l < Vectors<C>::kLanes; l++) total += by_tau[k][l];
    m.by_tau[b] = total / spikeprop_tau<C>(events);
  }
}

template <class C>
void sum_events(const SpikePropBackward& a, char* memory, int64_t begin, int64_t end, void* scratch) {
  const SpikePropEvents& events = a.events;
  const SpikePropMemory<C> m(events, true, memory);
  const SpikePropConstants<C> c(events);
  constexpr int kNarrow = 64 / kVectorBytes;
  C* sums = static_cast<C*>(scratch);
  for (int64_t b = begin; b < end; b++) {
    C* by_event = m.by_event + b * events.N;
    const bool narrow = m.lanes * sizeof(C) == 64;
    if (a.grad_tau)
      narrow ? go_back_for_events<C, kNarrow, true>(a, c, m, b, sums, by_event)
             : go_back_for_events<C, 2 * kNarrow, true>(a, c, m, b, sums, by_event);
    else
      narrow ? go_back_for_events<C, kNarrow, false>(a, c, m, b, sums, by_event)
             : go_back_for_events<C, 2 * kNarrow, false>(a, c, m, b, sums, by_event);
    if (!a.grad_t_in) continue;
    C* grad = static_cast<C*>(a.grad_t_in) + b * events.I;
    for (int64_t i = 0; i < events.I; i++) {
      C sum = 0;
      for (int64_t k = 0; k < events.K; k++) sum += by_event[i * events.K + k];
      grad[i] = sum;
    }
  }
}

// ---- sums over all samples, in order

template <class C>
void sum_all(const SpikePropBackward& a, char* memory) {
  const SpikePropEvents& events = a.events;
  const SpikePropMemory<C> m(events, true, memory);
  if (a.grad_w && m.pieces > 1)
    for (int64_t block = 0; block < m.blocks; block++)
      unpack(events, block, m.lanes, m.pieces, m.sums + block * m.pieces * events.N * m.lanes,
             static_cast<C*>(a.grad_w));
  if (a.grad_delays) {
    const int64_t count = events.delay_stride ? events.N : events.K;
    C* grad = static_cast<C*>(a.grad_delays);
    for (int64_t d = 0; d < count; d++) {
      double sum = 0;
      for (int64_t b = 0; b < events.B; b++)
        for (int64_t n = d; n < events.N; n += count) sum += static_cast<double>(m.by_event[b * events.N + n]);
      grad[d] = static_cast<C>(sum);
    }
  }
  if (a.grad_tau) {
    double sum = 0;
    for (int64_t b = 0; b < events.B; b++) sum += m.by_tau[b];
    *static_cast<C*>(a.grad_tau) = static_cast<C>(sum);
  }
}

}  // namespace
}  // namespace snnfast::cpu::SNNFAST_ISA
