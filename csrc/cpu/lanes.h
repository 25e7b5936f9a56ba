// Vectors of the width that the processor's registers have, with the one thing that vector types of the compiler lack: a
// comparison as bits.
#pragma once
#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace snnfast::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class C>
struct Vectors {
  typedef C Type __attribute__((vector_size(kVectorBytes)));
  static constexpr int kLanes = kVectorBytes / sizeof(C);
};

using FloatVector = Vectors<float>::Type;
using DoubleVector = Vectors<double>::Type;

// Bit l is set where a[l] >= b[l].
inline uint32_t at_least(const FloatVector& a, const FloatVector& b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_GE_OQ);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), _CMP_GE_OQ)));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpge_ps(reinterpret_cast<__m128>(a), reinterpret_cast<__m128>(b))));
#else
  uint32_t bits = 0;
  for (int l = 0; l < Vectors<float>::kLanes; l++) bits |= static_cast<uint32_t>(a[l] >= b[l]) << l;
  return bits;
#endif
}

inline uint32_t at_least(const DoubleVector& a, const DoubleVector& b) {
#if defined(__AVX512F__)
  return _mm512_cmp_pd_mask(reinterpret_cast<__m512d>(a), reinterpret_cast<__m512d>(b), _CMP_GE_OQ);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_pd(_mm256_cmp_pd(reinterpret_cast<__m256d>(a), reinterpret_cast<__m256d>(b), _CMP_GE_OQ)));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_pd(_mm_cmpge_pd(reinterpret_cast<__m128d>(a), reinterpret_cast<__m128d>(b))));
#else
  uint32_t bits = 0;
  for (int l = 0; l < Vectors<double>::kLanes; l++) bits |= static_cast<uint32_t>(a[l] >= b[l]) << l;
  return bits;
#endif
}

// counts[l] += by where bit l is set, of 16 bits.
inline void add_where(int32_t* counts, uint32_t bits, int32_t by) {
#if defined(__AVX512F__)
  const __mmask16 mask = static_cast<__mmask16>(bits);
  _mm512_mask_storeu_epi32(counts, mask, _mm512_add_epi32(_mm512_maskz_loadu_epi32(mask, counts), _mm512_set1_epi32(by)));
#else
  for (; bits; bits &= bits - 1) counts[__builtin_ctz(bits)] += by;
#endif
}

// Appends first + l where bit l is set, of 16 bits, in this order. Writes up to 16 beyond the end.
inline int32_t* append_set(int32_t* out, int32_t first, uint32_t bits) {
#if defined(__AVX512F__)
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), _mm512_add_epi32(lanes, _mm512_set1_epi32(first))));
  return out + __builtin_popcount(bits);
#else
  for (; bits; bits &= bits - 1) *out++ = first + __builtin_ctz(bits);
  return out;
#endif
}

}  // namespace
}  // namespace snnfast::cpu
