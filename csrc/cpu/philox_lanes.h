// Philox on SIMD lanes. GCC does not find the 32 x 32 -> 64 bit multiplication of vectors: its loops take up to twice
// the time. So this instruction is an intrinsic; the rest is in core/philox.h.
#pragma once
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "core/philox.h"

namespace snnfast {
namespace {

#if defined(__AVX512F__)
constexpr int kPhiloxLanes = 8;
#elif defined(__AVX2__)
constexpr int kPhiloxLanes = 4;
#else
constexpr int kPhiloxLanes = 2;
#endif
using PhiloxLanes = uint64_t __attribute__((vector_size(8 * kPhiloxLanes)));

template <>
struct Multiply<PhiloxLanes> {
  static SNNFAST_HD PhiloxLanes by(PhiloxLanes a, uint32_t b) {
#if defined(__AVX512F__)
    return reinterpret_cast<PhiloxLanes>(_mm512_mul_epu32(reinterpret_cast<__m512i>(a), _mm512_set1_epi64(b)));
#elif defined(__AVX2__)
    return reinterpret_cast<PhiloxLanes>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), _mm256_set1_epi64x(b)));
#elif defined(__SSE2__)
    return reinterpret_cast<PhiloxLanes>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), _mm_set1_epi64x(b)));
#else
    return (a & 0xffffffffu) * b;
#endif
  }
};

}  // namespace
}  // namespace snnfast
