// Philox on SIMD lanes. GCC does not find the 32 x 32 -> 64 bit multiplication of vectors by itself: its loops take up to
// twice the time. So this one instruction is named, and the rest is written once in core/philox.h.
#pragma once
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "core/philox.h"

namespace snnfast {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 8;
#elif defined(__AVX2__)
constexpr int kLanes = 4;
#else
constexpr int kLanes = 2;
#endif
using Lanes = uint64_t __attribute__((vector_size(8 * kLanes)));

template <>
struct Multiply<Lanes> {
  static SNNFAST_HD Lanes by(Lanes a, uint32_t b) {
#if defined(__AVX512F__)
    return reinterpret_cast<Lanes>(_mm512_mul_epu32(reinterpret_cast<__m512i>(a), _mm512_set1_epi64(b)));
#elif defined(__AVX2__)
    return reinterpret_cast<Lanes>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), _mm256_set1_epi64x(b)));
#elif defined(__SSE2__)
    return reinterpret_cast<Lanes>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), _mm_set1_epi64x(b)));
#else
    return (a & 0xffffffffu) * b;
#endif
  }
};

}  // namespace
}  // namespace snnfast
