// Work follows the spikes. Weights are processed in blocks of rows, as many as SIMD lanes: a presynaptic spike weakens
// a column, so its lanes are the rows of the block; a postsynaptic spike strengthens a row, so its lanes are columns.
// For every weight the order of additions is that of the reference: potentiation and depression each in order of steps
// and samples.
#include "core/stdp.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

template <class C>
constexpr int64_t kRows = 64 / sizeof(C);

// ---- traces of one sample of the batch

template <class Bits>
inline void flags_as(const StridedSpikes& s, int64_t t, int64_t b, int64_t n, uint8_t* flags) {
  const Bits mask = s.floating ? static_cast<Bits>(static_cast<Bits>(~Bits(0)) >> 1) : static_cast<Bits>(~Bits(0));
  const Bits* row = static_cast<const Bits*>(s.data) + t * s.time_stride + b * s.batch_stride;
  if (s.neuron_stride == 1) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) flags[i] = (row[i] & mask) != 0;
  } else {
    for (int64_t i = 0; i < n; i++) flags[i] = (row[i * s.neuron_stride] & mask) != 0;
  }
}

// Flags of n neurons that fire, then zeros for each_flag to read.
void flags_of(const StridedSpikes& s, int64_t t, int64_t b, int64_t n, uint8_t* flags) {
  for (int64_t i = n; i < n + 8; i++) flags[i] = 0;
  switch (s.width) {
    case 1: return flags_as<uint8_t>(s, t, b, n, flags);
    case 2: return flags_as<uint16_t>(s, t, b, n, flags);
    case 4: return flags_as<uint32_t>(s, t, b, n, flags);
    case 8: return flags_as<uint64_t>(s, t, b, n, flags);
  }
}

// Calls found(i) for every flag that is set, in order.
template <class Found>
inline void each_flag(const uint8_t* flags, int64_t n, const Found& found) {
  for (int64_t i0 = 0; i0 < n; i0 += 8) {
    uint64_t eight;
    __builtin_memcpy(&eight, flags + i0, 8);
    if (eight == 0) continue;
    for (int64_t i = i0; i < i0 + 8; i++)
      if (flags[i]) found(i);
  }
}

// One step of both traces; x and x2 receive the values that the rule uses.
template <class C>
inline void step_traces(int64_t n, const uint8_t* flags, bool all, C decay, C decay2, C* trace, C* trace2, C* x,
                        C* x2) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const C decayed = trace[i] * decay, spiked = all ? decayed + C(1) : C(1);
    x[i] = trace[i] = flags[i] ? spiked : decayed;
  }
  if (x2) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x2[i] = trace2[i] * decay2;
  }
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const C decayed = trace2[i] * decay2, spiked = all ? decayed + C(1) : C(1);
    trace2[i] = flags[i] ? spiked : decayed;
  }
}

template <class C>
C* step_of(void* chunk, int64_t index, int64_t n) {
  return chunk ? static_cast<C*>(chunk) + index * n : nullptr;
}

template <class C>
void traces_pre(const Stdp& a, const Plasticity<C>& p, int64_t b, uint8_t* flags) {
  C *trace = static_cast<C*>(a.trace_pre) + b * a.N_pre, *trace2 = static_cast<C*>(a.trace_pre2) + b * a.N_pre;
  for (int64_t t = 0; t < a.steps; t++) {
    const int64_t index = t * a.B + b;
    flags_of(a.pre, a.t0 + t, b, a.N_pre, flags);
    step_traces(a.N_pre, flags, p.all, p.decay_pre, p.decay_pre2, trace, trace2, step_of<C>(a.x_pre, index, a.N_pre),
                step_of<C>(a.x_pre2, index, a.N_pre));
    int32_t* fired = a.fired + index * a.N_pre;
    int32_t count = 0;
    each_flag(flags, a.N_pre, [&](int64_t i) { fired[count++] = static_cast<int32_t>(i); });
    a.n_fired[index] = count;
  }
}

template <class C>
void traces_post(const Stdp& a, const Plasticity<C>& p, int64_t b, uint8_t* flags) {
  C *trace = static_cast<C*>(a.trace_post) + b * a.N_post, *trace2 = static_cast<C*>(a.trace_post2) + b * a.N_post;
  const int64_t blocks = a.padded_post / kRows<C>;
  for (int64_t t = 0; t < a.steps; t++) {
    const int64_t index = t * a.B + b;
    C *x = step_of<C>(a.x_post, index, a.padded_post), *x2 = step_of<C>(a.x_post2, index, a.padded_post);
    flags_of(a.post, a.t0 + t, b, a.N_post, flags);
    step_traces(a.N_post, flags, p.all, p.decay_post, p.decay_post2, trace, trace2, x, x2);
    for (int64_t j = a.N_post; j < a.padded_post; j++) x[j] = 0;
    uint16_t* fired = a.fired_post + t * blocks * a.B + b;
    for (int64_t k = 0; k < blocks; k++) fired[k * a.B] = 0;
    each_flag(flags, a.N_post,
              [&](int64_t j) { fired[j / kRows<C> * a.B] |= static_cast<uint16_t>(1u << j % kRows<C>); });
  }
}

// ---- weights of one block of rows

template <class C>
struct Block {
  int64_t j0, rows;
  C* w;              // its first row
  C *up, *down;      // [N_pre]: growth of one row
  C* row;            // [N_pre]: changes of one row
  C *lost, *shrink;  // [N_pre, kRows]
};

template <PlasticityKind K>
constexpr bool kGrowthVaries = K != PlasticityKind::additive && K != PlasticityKind::triplet;
template <PlasticityKind K>
constexpr bool kShrinkageVaries = K == PlasticityKind::linear || K == PlasticityKind::power;

template <PlasticityKind K, class C>
inline void growth_of_row(const Stdp& a, const Plasticity<C>& p, const C* w, C* up, C* down) {
  if constexpr (kGrowthVaries<K>) {
#pragma omp simd
    for (int64_t i = 0; i < a.N_pre; i++) {
      const StdpGrowth<C> growth = stdp_growth<K>(p, w[i]);
      up[i] = growth.up;
      if constexpr (K == PlasticityKind::exponential) down[i] = growth.down;
    }
  }
}

// Potentiation by a postsynaptic spike of row j in step t of sample b.
template <PlasticityKind K, class C>
inline void potentiate(const Stdp& a, const Plasticity<C>& p, int64_t t, int64_t b, int64_t j, const C* up,
                       const C* down, C* grown) {
  const C* x_pre = static_cast<const C*>(a.x_pre) + (t * a.B + b) * a.N_pre;
  const C x_post2 =
      K == PlasticityKind::triplet ? static_cast<const C*>(a.x_post2)[(t * a.B + b) * a.padded_post + j] : C(0);
#pragma omp simd
  for (int64_t i = 0; i < a.N_pre; i++) {
    const StdpGrowth<C> growth{kGrowthVaries<K> ? up[i] : C(1), K == PlasticityKind::exponential ? down[i] : C(0)};
    grown[i] += stdp_potentiation<K>(p, growth, x_pre[i], x_post2);
  }
}

template <PlasticityKind K, class C>
inline void shrinkage_of_column(const Stdp& a, const Plasticity<C>& p, const Block<C>& k, int64_t i) {
  for (int64_t r = 0; r < k.rows; r++) k.shrink[i * kRows<C> + r] = stdp_shrinkage<K>(p, k.w[r * a.w_stride + i]);
}

// Depression by all presynaptic spikes of step t of sample b.
template <PlasticityKind K, class C>
inline void depress(const Stdp& a, const Plasticity<C>& p, const Block<C>& k, int64_t t, int64_t b) {
  const int64_t index = t * a.B + b;
  const C* x_post = static_cast<const C*>(a.x_post) + index * a.padded_post + k.j0;
  const int32_t* fired = a.fired + index * a.N_pre;
  for (int32_t f = 0; f < a.n_fired[index]; f++) {
    const int64_t i = fired[f];
    C* lost = k.lost + i * kRows<C>;
    [[maybe_unused]] const C* shrink = k.shrink + i * kRows<C>;
    const C x_pre2 = K == PlasticityKind::triplet ? static_cast<const C*>(a.x_pre2)[index * a.N_pre + i] : C(0);
#pragma omp simd
    for (int64_t r = 0; r < kRows<C>; r++) {
      const C loss = stdp_loss<K>(p, x_post[r], x_pre2);
      lost[r] += kShrinkageVaries<K> ? loss * shrink[r] : loss;
    }
  }
}

template <PlasticityKind K, class C>
void each_step(const Stdp& a, const Plasticity<C>& p, const Block<C>& k) {
  const C scale = static_cast<C>(a.scale);
  const int64_t blocks = a.padded_post / kRows<C>;
  for (int64_t n = 0; n < a.N_pre * kRows<C>; n++) k.lost[n] = 0;
  for (int64_t t = 0; t < a.steps; t++) {
    const int32_t* touched = a.touched + t * a.N_pre;
    const int32_t n_touched = p.depresses() ? a.n_touched[t] : 0;
    if (n_touched > 0) {
      if constexpr (kShrinkageVaries<K>)
        for (int32_t f = 0; f < n_touched; f++) shrinkage_of_column<K>(a, p, k, touched[f]);
      for (int64_t b = 0; b < a.B; b++) depress<K>(a, p, k, t, b);
    }
    const uint16_t* fired = a.fired_post + (t * blocks + k.j0 / kRows<C>)*a.B;
    unsigned any = 0;
    for (int64_t b = 0; b < a.B; b++) any |= fired[b];
    for (int64_t r = 0; r < k.rows; r++) {
      C* w = k.w + r * a.w_stride;
      if (any >> r & 1) {
        growth_of_row<K>(a, p, w, k.up, k.down);
        for (int64_t i = 0; i < a.N_pre; i++) k.row[i] = 0;
        for (int64_t b = 0; b < a.B; b++)
          if (fired[b] >> r & 1) potentiate<K>(a, p, t, b, k.j0 + r, k.up, k.down, k.row);
        for (int32_t f = 0; f < n_touched; f++) k.row[touched[f]] -= k.lost[touched[f] * kRows<C> + r];
#pragma omp simd
        for (int64_t i = 0; i < a.N_pre; i++) w[i] = stdp_clamp(p, w[i] + k.row[i] * scale);
      } else {
        for (int32_t f = 0; f < n_touched; f++) {
          const int64_t i = touched[f];
          w[i] = stdp_clamp(p, w[i] - k.lost[i * kRows<C> + r] * scale);
        }
      }
    }
    for (int32_t f = 0; f < n_touched; f++)
      for (int64_t r = 0; r < kRows<C>; r++) k.lost[touched[f] * kRows<C> + r] = 0;
  }
}

// All steps with the initial weights of the sequence.
template <PlasticityKind K, class C>
void whole_sequence(const Stdp& a, const Plasticity<C>& p, Block<C> k) {
  const C scale = static_cast<C>(a.scale);
  const int64_t blocks = a.padded_post / kRows<C>, block = k.j0 / kRows<C>;
  C* grown = static_cast<C*>(a.grown) + k.j0 * a.N_pre;
  k.lost = static_cast<C*>(a.lost) + k.j0 * a.N_pre;
  if (a.t0 == 0) {
    for (int64_t n = 0; n < k.rows * a.N_pre; n++) grown[n] = 0;
    for (int64_t n = 0; n < kRows<C> * a.N_pre; n++) k.lost[n] = 0;
  }
  if (p.depresses() && a.steps > 0) {
    if constexpr (kShrinkageVaries<K>)
      for (int64_t i = 0; i < a.N_pre; i++) shrinkage_of_column<K>(a, p, k, i);
    for (int64_t t = 0; t < a.steps; t++)
      for (int64_t b = 0; b < a.B; b++) depress<K>(a, p, k, t, b);
  }
  for (int64_t r = 0; r < k.rows; r++) {
    if (a.steps > 0) growth_of_row<K>(a, p, k.w + r * a.w_stride, k.up, k.down);
    for (int64_t t = 0; t < a.steps; t++) {
      const uint16_t* fired = a.fired_post + (t * blocks + block) * a.B;
      for (int64_t b = 0; b < a.B; b++)
        if (fired[b] >> r & 1) potentiate<K>(a, p, t, b, k.j0 + r, k.up, k.down, grown + r * a.N_pre);
    }
  }
  if (!a.last || a.T == 0) return;
  for (int64_t r = 0; r < k.rows; r++) {
    C* w = k.w + r * a.w_stride;
    for (int64_t i = 0; i < a.N_pre; i++)
      w[i] = stdp_clamp(p, w[i] + (grown[r * a.N_pre + i] - k.lost[i * kRows<C> + r]) * scale);
  }
}

// One row of a reward-modulated rule: the eligibility of every sample decays in every step, so nothing is sparse.
template <PlasticityKind K, class C>
void reward_modulated(const Stdp& a, const Plasticity<C>& p, const Block<C>& k, int64_t r) {
  const C scale = static_cast<C>(a.scale), decay = static_cast<C>(a.decay_eligibility);
  const int64_t blocks = a.padded_post / kRows<C>, j = k.j0 + r;
  C *w = k.w + r * a.w_stride, *hebbian = k.row;
  C* change = a.each_step ? k.lost : static_cast<C*>(a.grown) + j * a.N_pre;
  for (int64_t i = 0; i < a.N_pre; i++) hebbian[i] = 0;
  if (a.each_step || a.t0 == 0)
    for (int64_t i = 0; i < a.N_pre; i++) change[i] = 0;
  bool growth_known = false;
  for (int64_t t = 0; t < a.steps; t++) {
    bool rewarded = false;
    for (int64_t b = 0; b < a.B; b++) {
      const int64_t index = t * a.B + b;
      const bool fires = a.fired_post[(t * blocks + k.j0 / kRows<C>)*a.B + b] >> r & 1;
      const int32_t* fired = a.fired + index * a.N_pre;
      const int32_t n_fired = p.depresses() ? a.n_fired[index] : 0;
      if (fires) {
        if (!growth_known) growth_of_row<K>(a, p, w, k.up, k.down);
        growth_known = true;
        potentiate<K>(a, p, t, b, j, k.up, k.down, hebbian);
      }
      if (n_fired > 0) {
        const C x_post = static_cast<const C*>(a.x_post)[index * a.padded_post + j];
        for (int32_t f = 0; f < n_fired; f++) {
          const int64_t i = fired[f];
          const C x_pre2 = K == PlasticityKind::triplet ? static_cast<const C*>(a.x_pre2)[index * a.N_pre + i] : C(0);
          hebbian[i] -= stdp_depression<K>(p, w[i], x_post, x_pre2);
        }
      }
      C* eligibility = static_cast<C*>(a.eligibility) + (b * a.N_post + j) * a.N_pre;
      const C reward = static_cast<const C*>(a.reward)[a.t0 * a.B + index];
      if (reward != 0) {
        rewarded = true;
#pragma omp simd
        for (int64_t i = 0; i < a.N_pre; i++) {
          eligibility[i] = eligibility[i] * decay + hebbian[i];
          change[i] += reward * eligibility[i];
        }
      } else {
#pragma omp simd
        for (int64_t i = 0; i < a.N_pre; i++) eligibility[i] = eligibility[i] * decay + hebbian[i];
      }
      if (fires)
        for (int64_t i = 0; i < a.N_pre; i++) hebbian[i] = 0;
      else
        for (int32_t f = 0; f < n_fired; f++) hebbian[fired[f]] = 0;
    }
    if (rewarded && a.each_step) {
#pragma omp simd
      for (int64_t i = 0; i < a.N_pre; i++) {
        w[i] = stdp_clamp(p, w[i] + change[i] * scale);
        change[i] = 0;
      }
      growth_known = false;
    }
  }
  if (!a.each_step && a.last && a.T > 0) {
#pragma omp simd
    for (int64_t i = 0; i < a.N_pre; i++) w[i] = stdp_clamp(p, w[i] + change[i] * scale);
  }
}

// Normalises the rows of the block to the sum a.norm; the sums of the rows are computed together, each in order.
template <class C>
void normalize(const Stdp& a, const Plasticity<C>& p, const Block<C>& k) {
  double total[kRows<C>] = {};
  for (int64_t i = 0; i < a.N_pre; i++)
    for (int64_t r = 0; r < k.rows; r++) total[r] += __builtin_fabs(static_cast<double>(k.w[r * a.w_stride + i]));
  for (int64_t r = 0; r < k.rows; r++) {
    if (!(total[r] > 0)) continue;
    const double factor = a.norm / total[r];
    C* w = k.w + r * a.w_stride;
#pragma omp simd
    for (int64_t i = 0; i < a.N_pre; i++) w[i] = stdp_clamp(p, static_cast<C>(w[i] * factor));
  }
}

template <PlasticityKind K, class C>
void run_blocks(const Stdp& a, int64_t begin, int64_t end, void* scratch) {
  const Plasticity<C> p = plasticity<C>(a.rule);
  C* memory = static_cast<C*>(scratch);
  for (int64_t block = begin; block < end; block++) {
    Block<C> k;
    k.j0 = block * kRows<C>;
    k.rows = a.N_post - k.j0 < kRows<C> ? a.N_post - k.j0 : kRows<C>;
    k.w = static_cast<C*>(a.w) + k.j0 * a.w_stride;
    k.lost = memory;
    k.shrink = k.lost + kRows<C> * a.N_pre;
    k.up = k.shrink + kRows<C> * a.N_pre;
    k.down = k.up + a.N_pre;
    k.row = k.down + a.N_pre;
    if constexpr (kShrinkageVaries<K>)  // also for rows that do not exist
      for (int64_t n = 0; n < kRows<C> * a.N_pre; n++) k.shrink[n] = 0;
    if (a.modulated) {
      for (int64_t r = 0; r < k.rows; r++) reward_modulated<K>(a, p, k, r);
    } else if (a.each_step) {
      each_step<K>(a, p, k);
    } else {
      whole_sequence<K>(a, p, k);
    }
    if (a.last && a.norm > 0) normalize(a, p, k);
  }
}

template <class C>
void blocks_of(const Stdp& a, int64_t begin, int64_t end, void* scratch) {
  with_kind(a.rule.kind, [&](auto kind) { run_blocks<decltype(kind)::value, C>(a, begin, end, scratch); });
}

template <class C>
void traces_of(const Stdp& a, int64_t begin, int64_t end, uint8_t* flags) {
  const Plasticity<C> p = plasticity<C>(a.rule);
  for (int64_t item = begin; item < end; item++) {
    if (item < a.B)
      traces_pre(a, p, item, flags);
    else
      traces_post(a, p, item - a.B, flags);
  }
}

}  // namespace

// Traces of the chunk: presynaptic for the items [0, B), one per sample, postsynaptic for [B, 2 B). scratch: one byte
// per neuron, and 8.
void stdp_traces(const Stdp& a, int64_t begin, int64_t end, void* scratch) {
  if (a.is_double)
    traces_of<double>(a, begin, end, static_cast<uint8_t*>(scratch));
  else
    traces_of<float>(a, begin, end, static_cast<uint8_t*>(scratch));
}

// Presynaptic neurons that fire in any sample, for the steps [begin, end) of the chunk. scratch as above.
void stdp_touched(const Stdp& a, int64_t begin, int64_t end, void* scratch) {
  uint8_t* flags = static_cast<uint8_t*>(scratch);
  for (int64_t i = 0; i < a.N_pre + 8; i++) flags[i] = 0;
  for (int64_t t = begin; t < end; t++) {
    for (int64_t b = 0; b < a.B; b++) {
      const int32_t* fired = a.fired + (t * a.B + b) * a.N_pre;
      for (int32_t f = 0; f < a.n_fired[t * a.B + b]; f++) flags[fired[f]] = 1;
    }
    int32_t *touched = a.touched + t * a.N_pre, count = 0;
    each_flag(flags, a.N_pre, [&](int64_t i) {
      touched[count++] = static_cast<int32_t>(i);
      flags[i] = 0;
    });
    a.n_touched[t] = count;
  }
}

// Blocks of rows [begin, end).
void stdp_weights(const Stdp& a, int64_t begin, int64_t end, void* scratch) {
  if (a.is_double)
    blocks_of<double>(a, begin, end, scratch);
  else
    blocks_of<float>(a, begin, end, scratch);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
