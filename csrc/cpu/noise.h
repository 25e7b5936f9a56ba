// Poisson input of recurrent neurons (Noise of core/recurrent.h). Target n of sample b at step t takes word n % 64 / 16
// of the Philox counter (n / 64 * 16 + n % 16, b, t, t >> 32), so that lanes of counters are neighbouring targets.
#pragma once
#include "core/recurrent.h"
#include "cpu/philox_lanes.h"

namespace snnfast::cpu {
namespace {

constexpr int64_t kNoiseBlock = 64, kNoiseCounters = 16;

// Random words of the targets [64 block, 64 block + 64).
inline void noise_words(const Noise& noise, int64_t block, int64_t sample, int64_t t, uint32_t* words) {
  constexpr int kVectors = kPhiloxLanes > 2 ? kNoiseCounters / kPhiloxLanes : 4;  // whose latencies overlap
  const uint64_t step = static_cast<uint64_t>(noise.step + t), counter = static_cast<uint64_t>(block * kNoiseCounters);
  using Narrow = uint32_t __attribute__((vector_size(4 * kPhiloxLanes)));
  const PhiloxLanes zero{};
  PhiloxLanes lane;
  for (int k = 0; k < kPhiloxLanes; k++) lane[k] = static_cast<uint64_t>(k);
  for (int64_t i = 0; i < kNoiseCounters; i += kVectors * kPhiloxLanes) {
    Words<PhiloxLanes> drawn[kVectors];
    for (int v = 0; v < kVectors; v++)
      drawn[v] = {lane + (counter + static_cast<uint64_t>(i + v * kPhiloxLanes)), zero + static_cast<uint64_t>(sample),
                  zero + step, zero + (step >> 32)};
    philox4x32_10(drawn, static_cast<uint32_t>(noise.seed), static_cast<uint32_t>(noise.seed >> 32));
    for (int v = 0; v < kVectors; v++) {
      const PhiloxLanes found[] = {drawn[v].x, drawn[v].y, drawn[v].z, drawn[v].w};
      for (int w = 0; w < 4; w++) {
        const Narrow narrow = __builtin_convertvector(found[w], Narrow);
        __builtin_memcpy(words + w * kNoiseCounters + i + v * kPhiloxLanes, &narrow, sizeof narrow);
      }
    }
  }
}

// Numbers of arrivals of m targets of a run. Four thresholds at a time, of which the last ends the loop if no word
// reaches it.
inline void arrivals(const int64_t* run, int64_t width, const uint32_t* words, int64_t m, int32_t* count) {
  for (int64_t i = 0; i < m; i++) count[i] = static_cast<int32_t>(run[1]);
  // A threshold of 2^32 is reached by no word.
  const auto below = [&](int64_t k) {
    return k < width ? static_cast<uint32_t>(min(run[k] - 1, int64_t(UINT32_MAX))) : UINT32_MAX;
  };
  for (int64_t k = 2; k < width; k += 4) {
    const uint32_t a = below(k), b = below(k + 1), c = below(k + 2), d = below(k + 3);
    int32_t any = 0;
#pragma omp simd reduction(| : any)
    for (int64_t i = 0; i < m; i++) {
      const int32_t last = words[i] > d;
      count[i] += (words[i] > a) + (words[i] > b) + (words[i] > c) + last;
      any |= last;
    }
    if (!any) return;
  }
}

// Adds the noise of step t of the call to a row of the targets [begin, end) of a sample; nothing is drawn where the
// rate is 0.
template <class C>
void add_noise(const Noise& noise, int64_t begin, int64_t end, int64_t sample, int64_t t, C* row) {
  const C* const weight = static_cast<const C*>(noise.weight);
  const auto end_of = [&](int64_t run) { return run + 1 < noise.runs ? noise.run(run + 1)[0] : end; };
  alignas(64) uint32_t words[kNoiseBlock];
  alignas(64) int32_t count[kNoiseBlock];
  int64_t run = 0, drawn = -1;  // drawn: block of the words
  for (int64_t n = begin, stop; n < end; n = stop) {
    while (end_of(run) <= n) run++;
    stop = min(end_of(run), end);
    if (noise.silent(noise.run(run))) continue;
    const int64_t block = n / kNoiseBlock;
    stop = min(stop, (block + 1) * kNoiseBlock);
    if (block != drawn) noise_words(noise, drawn = block, sample, t, words);
    const int64_t m = stop - n;
    if (m == kNoiseBlock)
      arrivals(noise.run(run), noise.width, words, kNoiseBlock, count);
    else
      arrivals(noise.run(run), noise.width, words + n - block * kNoiseBlock, m, count);
#pragma omp simd
    for (int64_t i = 0; i < m; i++) row[n - begin + i] += weight[n + i] * static_cast<C>(count[i]);
  }
}

}  // namespace
}  // namespace snnfast::cpu
