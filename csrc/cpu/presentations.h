// From the three forms of presentations to lists of firing inputs.
#pragma once
#include <cstring>

#include "core/poisson.h"
#include "core/presentations.h"
#include "cpu/philox_lanes.h"

namespace snnfast::cpu {
namespace {

template <class Bits>
int32_t* append_row(const Bits* row, int64_t inputs, Bits significant, int32_t* out) {
  constexpr int64_t kStride = 64 / sizeof(Bits);
  int64_t i = 0;
  for (; i + kStride <= inputs; i += kStride) {
    Bits any = 0;
    for (int64_t k = 0; k < kStride; k++) any |= row[i + k] & significant;
    if (!any) continue;  // spikes are few
    for (int64_t k = 0; k < kStride; k++) {
      *out = static_cast<int32_t>(i + k);
      out += (row[i + k] & significant) != 0;
    }
  }
  for (; i < inputs; i++) {
    *out = static_cast<int32_t>(i);
    out += (row[i] & significant) != 0;
  }
  return out;
}

// `out` has room for one element more than there are spikes.
template <class Bits>
void encode_dense(const Presentations& x, int64_t p, Bits significant, const SpikeTrain& out) {
  int32_t* next = out.inputs;
  for (int64_t t = 0; t < x.T; t++) {
    next = append_row(static_cast<const Bits*>(x.spikes) + (p * x.T + t) * x.I, x.I, significant, next);
    out.offsets[t + 1] = static_cast<int32_t>(next - out.inputs);
  }
}

inline void encode_events(const Presentations& x, int64_t p, const SpikeTrain& out) {
  const int64_t* offsets = x.offsets + p * (x.T + 1);
  for (int64_t t = 0; t < x.T; t++) out.offsets[t + 1] = static_cast<int32_t>(offsets[t + 1] - offsets[0]);
  memcpy(out.inputs, x.inputs + offsets[0], sizeof(int32_t) * static_cast<size_t>(offsets[x.T] - offsets[0]));
}

// Bit k is set where lane k of a < b; both below 2^31.
inline uint32_t lanes_below(Lanes a, Lanes b) {
#if defined(__AVX512F__)
  return _mm512_cmplt_epu64_mask(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b));
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(reinterpret_cast<__m256i>(b), reinterpret_cast<__m256i>(a)))));
#else
  uint32_t mask = 0;
  for (int k = 0; k < kLanes; k++) mask |= static_cast<uint32_t>(a[k] < b[k]) << k;
  return mask;
#endif
}

// The counters that inputs with a rate above 0 need in steps whose first element has the same place in its counter
// (core/poisson.h): Philox draws nothing for the dark parts of an image.
struct RateGroups {
  int64_t count;           // counters, rounded up to the SIMD width
  uint64_t* counter;       // [count] counted from the step's first
  uint64_t* threshold[4];  // [count] a word's upper 24 bits below this are a spike
  int32_t* input;          // [4 count]
};

// Bytes of scratch memory for encode_rates.
inline int64_t rate_groups_bytes(int64_t inputs) {
  const int64_t counters = inputs / 4 + 2 + kLanes;
  return counters * static_cast<int64_t>(5 * sizeof(uint64_t) + 4 * sizeof(int32_t));
}

inline RateGroups rate_groups(const float* hz, float per_hz, int64_t inputs, int64_t phase, char* memory) {
  const int64_t room = inputs / 4 + 2 + kLanes;
  RateGroups g;
  g.counter = reinterpret_cast<uint64_t*>(memory);
  for (int k = 0; k < 4; k++) g.threshold[k] = g.counter + (k + 1) * room;
  g.input = reinterpret_cast<int32_t*>(g.counter + 5 * room);
  g.count = 0;
  int64_t last = -1;
  for (int64_t i = 0; i < inputs; i++) {
    const float scaled = hz[i] * per_hz * 16777216.f;
    if (!(scaled > 0.f)) continue;  // never fires; nor does NaN
    const int64_t counter = (i + phase) / 4, word = (i + phase) % 4;
    if (counter != last) {
      last = counter;
      g.counter[g.count] = static_cast<uint64_t>(counter);
      for (int k = 0; k < 4; k++) g.threshold[k][g.count] = 0, g.input[4 * g.count + k] = static_cast<int32_t>(4 * counter + k - phase);
      g.count++;
    }
    const float up = scaled < 16777216.f ? scaled : 16777216.f;
    const uint32_t whole = static_cast<uint32_t>(up);
    g.threshold[word][g.count - 1] = whole + (static_cast<float>(whole) < up);  // k < p 2^24 for whole k: k < ceil(p 2^24)
  }
  for (; g.count % kLanes; g.count++) {
    g.counter[g.count] = 0;
    for (int k = 0; k < 4; k++) g.threshold[k][g.count] = 0;
  }
  return g;
}

// The spikes of poisson(hz per_hz, T, seed), bit for bit.
inline void encode_rates(const Presentations& x, int64_t p, char* memory, const SpikeTrain& out) {
  const uint64_t key = static_cast<uint64_t>(x.seeds[p]);
  int32_t* next = out.inputs;
  const int phases = x.I % 4 == 0 ? 1 : x.I % 2 == 0 ? 2 : 4;
  RateGroups groups[4];
  for (int k = 0; k < phases; k++) groups[k] = rate_groups(x.hz + p * x.I, x.per_hz, x.I, k * (4 / phases), memory + k * rate_groups_bytes(x.I));
  for (int64_t t = 0; t < x.T; t++) {
    const uint64_t first = static_cast<uint64_t>(t * x.I / 4);
    const RateGroups& g = groups[t * x.I % 4 * phases / 4];
    for (int64_t k = 0; k < g.count; k += kLanes) {
      Lanes c, threshold[4];
      memcpy(&c, g.counter + k, sizeof c);
      for (int word = 0; word < 4; word++) memcpy(&threshold[word], g.threshold[word] + k, sizeof c);
      c += first;
      const Words<Lanes> words = philox4x32_10<Lanes>({c, c >> 32, Lanes{}, Lanes{}}, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
      const auto fires = [](Lanes word, Lanes below) { return lanes_below((word & 0xffffffffu) >> 8, below); };
      const uint32_t m0 = fires(words.x, threshold[0]), m1 = fires(words.y, threshold[1]);
      const uint32_t m2 = fires(words.z, threshold[2]), m3 = fires(words.w, threshold[3]);
      for (uint32_t any = m0 | m1 | m2 | m3; any; any &= any - 1) {
        const int lane = __builtin_ctz(any);
        const int32_t* input = g.input + 4 * (k + lane);
        *next = input[0], next += m0 >> lane & 1;
        *next = input[1], next += m1 >> lane & 1;
        *next = input[2], next += m2 >> lane & 1;
        *next = input[3], next += m3 >> lane & 1;
      }
    }
    out.offsets[t + 1] = static_cast<int32_t>(next - out.inputs);
  }
}

inline int64_t encode_bytes(const Presentations& x) { return x.hz ? 4 * rate_groups_bytes(x.I) : 0; }

inline void encode_presentation(const Presentations& x, int64_t p, char* memory, const SpikeTrain& out) {
  out.offsets[0] = 0;
  if (x.hz) return encode_rates(x, p, memory, out);
  if (x.offsets) return encode_events(x, p, out);
  switch (x.width) {
    case 1: return encode_dense<uint8_t>(x, p, 0xff, out);
    case 4: return encode_dense<uint32_t>(x, p, 0x7fffffffu, out);  // -0 is no spike
    case 8: return encode_dense<uint64_t>(x, p, 0x7fffffffffffffffu, out);
  }
}

}  // namespace
}  // namespace snnfast::cpu
