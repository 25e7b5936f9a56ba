// Encodes the three forms of presentations as lists of firing inputs.
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
    if (!any) continue;  // spikes are sparse
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

// `out` has more room than there are spikes: inputs that do not fire are written, too, and then overwritten.
template <class Bits>
void encode_dense(const Presentations& x, int64_t p, Bits significant, const SpikeTrain& out) {
  int32_t* next = out.inputs;
  for (int64_t t = 0; t < x.T; t++) {
    next = append_row(static_cast<const Bits*>(x.spikes) + p * x.presentation_stride + t * x.step_stride, x.I,
                      significant, next);
    out.offsets[t + 1] = static_cast<int32_t>(next - out.inputs);
  }
}

inline void encode_events(const Presentations& x, int64_t p, const SpikeTrain& out) {
  const int64_t* offsets = x.offsets + p * (x.T + 1);
  for (int64_t t = 0; t < x.T; t++) out.offsets[t + 1] = static_cast<int32_t>(offsets[t + 1] - offsets[0]);
  const int64_t fired = offsets[x.T] - offsets[0];
  if (fired > 0)
    memcpy(out.inputs, x.inputs + offsets[0],
           sizeof(int32_t) * static_cast<size_t>(fired));  // without spikes, the pointer may be null
}

// Words of kPhiloxLanes counters once x, y, z and w are interleaved: those of counter k begin at word 4 k.
constexpr int kBatch = 4 * kPhiloxLanes;

// Appends the elements of inputs[kBatch] whose word, as a 24-bit number, is below its threshold. Writes up to 16
// elements beyond the end.
inline int32_t* append_fired(const Words<PhiloxLanes>& words, const uint32_t* threshold, const int32_t* inputs,
                             int32_t* out) {
  const PhiloxLanes xy = (words.x & 0xffffffffu) | words.y << 32, zw = (words.z & 0xffffffffu) | words.w << 32;
  // Unpacking takes every second lane; rate_groups places the counters accordingly.
#if defined(__AVX512F__)
  const __m512i halves[2] = {_mm512_unpacklo_epi64(reinterpret_cast<__m512i>(xy), reinterpret_cast<__m512i>(zw)),
                             _mm512_unpackhi_epi64(reinterpret_cast<__m512i>(xy), reinterpret_cast<__m512i>(zw))};
  for (int half = 0; half < 2; half++) {
    const __mmask16 fired =
        _mm512_cmplt_epu32_mask(_mm512_srli_epi32(halves[half], 8), _mm512_loadu_si512(threshold + 16 * half));
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(fired, _mm512_loadu_si512(inputs + 16 * half)));
    out += __builtin_popcount(fired);
  }
#elif defined(__AVX2__)
  const __m256i halves[2] = {_mm256_unpacklo_epi64(reinterpret_cast<__m256i>(xy), reinterpret_cast<__m256i>(zw)),
                             _mm256_unpackhi_epi64(reinterpret_cast<__m256i>(xy), reinterpret_cast<__m256i>(zw))};
  uint32_t fired = 0;
  for (int half = 0; half < 2; half++) {
    const __m256i below = _mm256_cmpgt_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(threshold + 8 * half)),
                                             _mm256_srli_epi32(halves[half], 8));
    fired |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(below))) << 8 * half;
  }
  for (; fired; fired &= fired - 1) *out++ = inputs[__builtin_ctz(fired)];  // spikes are few
#else
  uint32_t word[kBatch];
  for (int k = 0; k < kPhiloxLanes; k++) {
    const uint64_t pair[2] = {xy[k], zw[k]};
    memcpy(word + 4 * k, pair, sizeof pair);
  }
  for (int k = 0; k < kBatch; k++) {
    *out = inputs[k];
    out += word[k] >> 8 < threshold[k];
  }
#endif
  return out;
}

// Lane of the k-th counter of a batch.
inline int lane_of(int k) {
#if defined(__AVX2__)
  return k < kPhiloxLanes / 2 ? 2 * k : 2 * (k - kPhiloxLanes / 2) + 1;
#else
  return k;
#endif
}

// Counters of the inputs with a rate above 0, for steps whose first element has the same position in its counter
// (core/poisson.h): Philox draws nothing for the dark parts of an image.
struct RateGroups {
  int64_t count;        // counters, rounded up to the SIMD width
  uint64_t* counter;    // [count] relative to the first of the step, in the SIMD lanes of lane_of
  uint32_t* threshold;  // [count, 4] a spike if the upper 24 bits of the word are below this
  int32_t* input;       // [count, 4]
};

inline int64_t rate_groups_room(int64_t inputs) { return (inputs / 4 + 2 + kPhiloxLanes) / 8 * 8 + 8; }

// Bytes of scratch memory for rate_groups.
inline int64_t rate_groups_bytes(int64_t inputs) {
  return rate_groups_room(inputs) * static_cast<int64_t>(sizeof(uint64_t) + 4 * (sizeof(uint32_t) + sizeof(int32_t)));
}

inline RateGroups rate_groups(const float* hz, float per_hz, int64_t inputs, int64_t phase, char* memory) {
  const int64_t room = rate_groups_room(inputs);
  RateGroups g;
  g.counter = reinterpret_cast<uint64_t*>(memory);
  g.threshold = reinterpret_cast<uint32_t*>(g.counter + room);
  g.input = reinterpret_cast<int32_t*>(g.threshold + 4 * room);
  g.count = 0;
  const auto add = [&](int64_t counter) {
    const int64_t k = g.count++;
    g.counter[k / kPhiloxLanes * kPhiloxLanes + lane_of(static_cast<int>(k % kPhiloxLanes))] =
        static_cast<uint64_t>(counter);
    for (int64_t word = 0; word < 4; word++)
      g.threshold[4 * k + word] = 0, g.input[4 * k + word] = static_cast<int32_t>(4 * counter + word - phase);
  };
  int64_t last = -1;
  for (int64_t i = 0; i < inputs; i++) {
    const float scaled = hz[i] * per_hz * 16777216.f;
    if (!(scaled > 0.f)) continue;  // never fires; neither does NaN
    const int64_t counter = (i + phase) / 4, word = (i + phase) % 4;
    if (counter != last) add(last = counter);
    const float up = scaled < 16777216.f ? scaled : 16777216.f;
    const uint32_t whole = static_cast<uint32_t>(up);
    g.threshold[4 * (g.count - 1) + word] =
        whole + (static_cast<float>(whole) < up);  // k < p 2^24 for whole k: k < ceil(p 2^24)
  }
  while (g.count % kPhiloxLanes) add(0);
  return g;
}

// Spikes of poisson(hz per_hz, T, seed), bit for bit.
inline void encode_rates(const Presentations& x, int64_t p, char* memory, const SpikeTrain& out) {
  const uint64_t key = static_cast<uint64_t>(x.seeds[p]);
  int32_t* next = out.inputs;
  const int phases = x.I % 4 == 0 ? 1 : x.I % 2 == 0 ? 2 : 4;
  RateGroups groups[4];
  for (int k = 0; k < phases; k++)
    groups[k] = rate_groups(x.hz + p * x.I, x.per_hz, x.I, k * (4 / phases), memory + k * rate_groups_bytes(x.I));
  for (int64_t t = 0; t < x.T; t++) {
    const uint64_t first = static_cast<uint64_t>(t * x.I / 4);
    const RateGroups& g = groups[t * x.I % 4 * phases / 4];
    for (int64_t k = 0; k < g.count; k += kPhiloxLanes) {
      PhiloxLanes c;
      memcpy(&c, g.counter + k, sizeof c);
      c += first;
      const Words<PhiloxLanes> words = philox4x32_10<PhiloxLanes>(
          {c, c >> 32, PhiloxLanes{}, PhiloxLanes{}}, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
      next = append_fired(words, g.threshold + 4 * k, g.input + 4 * k, next);
    }
    out.offsets[t + 1] = static_cast<int32_t>(next - out.inputs);
  }
}

inline int64_t encode_bytes(const Presentations& x) {
  return x.form == PresentationForm::rates ? 4 * rate_groups_bytes(x.I) : 0;
}

inline void encode_presentation(const Presentations& x, int64_t p, char* memory, const SpikeTrain& out) {
  out.offsets[0] = 0;
  if (x.form == PresentationForm::rates) return encode_rates(x, p, memory, out);
  if (x.form == PresentationForm::events) return encode_events(x, p, out);
  switch (x.width) {
    case 1: return encode_dense<uint8_t>(x, p, 0xff, out);
    case 4: return encode_dense<uint32_t>(x, p, 0x7fffffffu, out);  // -0 is no spike
    case 8: return encode_dense<uint64_t>(x, p, 0x7fffffffffffffffu, out);
  }
}

}  // namespace
}  // namespace snnfast::cpu
