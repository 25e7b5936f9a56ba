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

}  // namespace
}  // namespace snnfast::cpu
