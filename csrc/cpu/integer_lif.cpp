#include "core/integer_lif.h"

#include "cpu/rows.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int64_t kBlock = kNeuronBlock;

template <Reset R>
void block(const IntegerLif& a, int64_t n0, int64_t m, IntegerLifFound* found) {
  alignas(64) int32_t v[kBlock], gain[kBlock], bias[kBlock], most[kBlock];
  int64_t c = n0 / a.inner % a.channels, left = a.inner - n0 % a.inner;  // neurons left in this channel
  for (int64_t i = 0; i < m; i++) {
    const int32_t given = a.v ? a.v[n0 + i] : 0;
    v[i] = given > a.limit ? a.limit : given < -a.limit ? -a.limit : given;
    gain[i] = a.gain[c], bias[i] = a.bias[c], most[i] = a.most[c];
    if (--left) continue;
    left = a.inner;
    if (++c == a.channels) c = 0;
  }
  for (int64_t t = 0; t < a.T; t++) {
    const int32_t* x = a.x + t * a.time_stride + n0;
    int8_t* spikes = static_cast<int8_t*>(a.y) + t * a.N + n0;
    int32_t* membranes = static_cast<int32_t*>(a.y) + t * a.N + n0;
    int32_t saturated = 0, beyond = 0;
#pragma omp simd reduction(+ : saturated, beyond)
    for (int64_t i = 0; i < m; i++) {
      const int32_t in = x[i] > most[i] ? most[i] : x[i] < -most[i] ? -most[i] : x[i];
      beyond += in != x[i];
      // floor(v * decay / 2^15) in two parts, neither of which exceeds 32 bits
      const int32_t h = (v[i] >> 15) * a.decay + ((v[i] & 32767) * a.decay >> 15) + in * gain[i] + bias[i];
      const int32_t cut = h > a.limit ? a.limit : h < -a.limit ? -a.limit : h;
      saturated += cut != h;
      const bool fired = R != Reset::none && cut >= a.threshold;
      v[i] = fired ? (R == Reset::hard ? a.v_reset : cut - a.threshold) : cut;
      if (R == Reset::none)
        membranes[i] = v[i];
      else
        spikes[i] = fired;
    }
    found->saturated += saturated, found->beyond += beyond;
  }
  for (int64_t i = 0; i < m; i++) a.v_out[n0 + i] = v[i];
}

template <Reset R>
void blocks(const IntegerLif& a, int64_t begin, int64_t end, IntegerLifFound* found) {
  for (int64_t n0 = begin; n0 < end; n0 += kBlock) block<R>(a, n0, min(end - n0, kBlock), found);
}

}  // namespace

// Runs the neurons [begin, end) and adds to `found`.
void integer_lif(const IntegerLif& a, int64_t begin, int64_t end, IntegerLifFound* found) {
  switch (a.reset) {
    case Reset::hard: return blocks<Reset::hard>(a, begin, end, found);
    case Reset::soft: return blocks<Reset::soft>(a, begin, end, found);
    case Reset::none: return blocks<Reset::none>(a, begin, end, found);
  }
}

}  // namespace snnfast::cpu::SNNFAST_ISA
