#include "core/poisson.h"

#include "cpu/philox_lanes.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

constexpr int64_t kBlock = 256;

// Uniform numbers of elements [4 counter, 4 counter + kBlock); the counters are SIMD lanes.
inline void draw(int64_t counter, int64_t seed, float* uniform) {
  const uint64_t key = static_cast<uint64_t>(seed);
  alignas(64) uint64_t pairs[kBlock / 2];
  for (int64_t i = 0; i < kBlock / 4; i += kPhiloxLanes) {
    PhiloxLanes c;
    for (int k = 0; k < kPhiloxLanes; k++) c[k] = static_cast<uint64_t>(counter + i + k);
    const Words<PhiloxLanes> words = philox4x32_10<PhiloxLanes>(
        {c, c >> 32, PhiloxLanes{}, PhiloxLanes{}}, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
    const PhiloxLanes xy = (words.x & 0xffffffffu) | words.y << 32, zw = (words.z & 0xffffffffu) | words.w << 32;
    for (int k = 0; k < kPhiloxLanes; k++) pairs[2 * (i + k)] = xy[k], pairs[2 * (i + k) + 1] = zw[k];
  }
  uint32_t words[kBlock];
  __builtin_memcpy(words, pairs, sizeof pairs);
#pragma omp simd
  for (int64_t i = 0; i < kBlock; i++) uniform[i] = poisson_uniform(words[i]);
}

template <class Bits>
void run(const Poisson& a, int64_t begin, int64_t end) {
  alignas(64) float uniform[kBlock];
  // A row shorter than a block is repeated, so that a block never spans more than two rows.
  alignas(64) float tile[2 * kBlock];
  const bool tiled = a.N < kBlock;
  if (tiled)
    for (int64_t i = 0; i < a.N + kBlock; i++) tile[i] = a.p[i % a.N];
  const Bits one = static_cast<Bits>(a.one);
  const int64_t seed = *a.seed;
  for (int64_t e = begin; e < end; e += kBlock) {
    draw(e / 4, seed, uniform);
    const int64_t count = min(end - e, kBlock), n = e % a.N;
    const auto compare = [&](int64_t from, int64_t to, const float* p) {
      Bits* spikes = static_cast<Bits*>(a.spikes) + e + from;
      const float* u = uniform + from;
#pragma omp simd
      for (int64_t i = 0; i < to - from; i++) spikes[i] = poisson_fires(u[i], p[i]) ? one : Bits(0);
    };
    if (tiled) {
      compare(0, count, tile + n);
    } else {
      const int64_t split = min(a.N - n, count);
      compare(0, split, a.p + n);
      compare(split, count, a.p);
    }
  }
}

}  // namespace

// Elements [begin, end) of the sequence; begin is a multiple of 4.
void poisson(const Poisson& a, int64_t begin, int64_t end) {
  switch (a.width) {
    case 1: return run<uint8_t>(a, begin, end);
    case 2: return run<uint16_t>(a, begin, end);
    case 4: return run<uint32_t>(a, begin, end);
    case 8: return run<uint64_t>(a, begin, end);
  }
}

}  // namespace snnfast::cpu::SNNFAST_ISA
