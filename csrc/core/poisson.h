// Bernoulli spikes from counter-based random numbers. Element e = t N + n of a sequence [T, N] takes word e % 4 of
// counter e / 4, on any thread and device.
#pragma once
#include "core/philox.h"

namespace snnfast {

struct Poisson {
  const float* p;       // [N]
  const int64_t* seed;  // one value, on the device: a CUDA graph replays with a new one
  void* spikes;         // [T, N]
  int64_t N, total;     // total = T N
  int32_t width;        // bytes of one spike
  uint64_t one;         // the bits of a spike in its dtype; no spike is all zeros in every dtype
};

namespace {

SNNFAST_HD Words<uint32_t> poisson_counter(int64_t counter) {
  const uint64_t c = static_cast<uint64_t>(counter);
  return {static_cast<uint32_t>(c), static_cast<uint32_t>(c >> 32), 0, 0};
}

// Replaces counters by their words.
template <int kCounters>
SNNFAST_HD void poisson_words(Words<uint32_t> (&counters)[kCounters], int64_t seed) {
  const uint64_t key = static_cast<uint64_t>(seed);
  philox4x32_10(counters, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
}

SNNFAST_HD Words<uint32_t> poisson_words(int64_t counter, int64_t seed) {
  Words<uint32_t> one[] = {poisson_counter(counter)};
  poisson_words(one, seed);
  return one[0];
}

// A uniform number in [0, 1): 24 bits, which float holds exactly, so that every device compares alike, p = 0 never
// fires and p = 1 always does.
SNNFAST_HD float poisson_uniform(uint32_t word) {
  return static_cast<float>(static_cast<int32_t>(word >> 8)) * (1.f / 16777216.f);
}

SNNFAST_HD bool poisson_fires(float uniform, float p) { return uniform < p; }

}  // namespace
}  // namespace snnfast
