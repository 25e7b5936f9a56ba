// Vectors as wide as the processor's registers, and comparisons that return bits, which vector types of the compiler
// lack.
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
  typedef C Loose __attribute__((vector_size(kVectorBytes), aligned(sizeof(C)), may_alias));  // unaligned
  static constexpr int kLanes = kVectorBytes / sizeof(C);
};

template <class C>
inline typename Vectors<C>::Loose& vector_at(C* p) {
  return *reinterpret_cast<typename Vectors<C>::Loose*>(p);
}
template <class C>
inline const typename Vectors<C>::Loose& vector_at(const C* p) {
  return *reinterpret_cast<const typename Vectors<C>::Loose*>(p);
}

// Loads a vector of C from numbers of type C or int8.
template <class C>
inline typename Vectors<C>::Type vector_as(const C* p) {
  return vector_at(p);
}
template <class C>
inline typename Vectors<C>::Type vector_as(const int8_t* p) {
  using Vector = typename Vectors<C>::Type;
#if defined(__AVX512F__)
  return reinterpret_cast<Vector>(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
  return reinterpret_cast<Vector>(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  Vector wide;
  for (int l = 0; l < Vectors<C>::kLanes; l++) wide[l] = p[l];
  return wide;
#endif
}

using FloatVector = Vectors<float>::Type;
using DoubleVector = Vectors<double>::Type;

// Bit l is set where a[l] >= b[l].
inline uint32_t at_least(const FloatVector& a, const FloatVector& b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_GE_OQ);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(
      _mm256_movemask_ps(_mm256_cmp_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), _CMP_GE_OQ)));
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
  return static_cast<uint32_t>(
      _mm256_movemask_pd(_mm256_cmp_pd(reinterpret_cast<__m256d>(a), reinterpret_cast<__m256d>(b), _CMP_GE_OQ)));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(
      _mm_movemask_pd(_mm_cmpge_pd(reinterpret_cast<__m128d>(a), reinterpret_cast<__m128d>(b))));
#else
  uint32_t bits = 0;
  for (int l = 0; l < Vectors<double>::kLanes; l++) bits |= static_cast<uint32_t>(a[l] >= b[l]) << l;
  return bits;
#endif
}

// counts[l] += bit l of more - bit l of less, of 16 bits; counts without such a bit are not touched.
inline void add_difference(int32_t* counts, uint32_t more, uint32_t less) {
  const uint32_t changed = more ^ less;
#if defined(__AVX512F__)
  const __mmask16 mask = static_cast<__mmask16>(changed);
  const __m512i by = _mm512_mask_blend_epi32(static_cast<__mmask16>(more), _mm512_set1_epi32(-1), _mm512_set1_epi32(1));
  _mm512_mask_storeu_epi32(counts, mask, _mm512_add_epi32(_mm512_maskz_loadu_epi32(mask, counts), by));
#else
  for (uint32_t bits = changed; bits; bits &= bits - 1)
    counts[__builtin_ctz(bits)] += more >> __builtin_ctz(bits) & 1 ? 1 : -1;
#endif
}

// Lists the indices and values of the nonzero counts among n; returns their number.
inline int32_t list_counts(const int32_t* counts, int64_t n, int32_t* indices, int32_t* values) {
  int32_t found = 0;
#if defined(__AVX512F__)
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t i = 0; i < n; i += 16) {
    const __m512i loaded =
        _mm512_maskz_loadu_epi32(static_cast<__mmask16>(n - i < 16 ? (1u << (n - i)) - 1 : 0xffffu), counts + i);
    const __mmask16 some = _mm512_test_epi32_mask(loaded, loaded);
    const int32_t more = __builtin_popcount(some);
    const __mmask16 low = static_cast<__mmask16>((1u << more) - 1);
    const __m512i index = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(i)));
    _mm512_mask_storeu_epi32(indices + found, low, _mm512_maskz_compress_epi32(some, index));
    _mm512_mask_storeu_epi32(values + found, low, _mm512_maskz_compress_epi32(some, loaded));
    found += more;
  }
#else
  for (int32_t i = 0; i < n; i++) {
    if (counts[i] == 0) continue;
    indices[found] = i;
    values[found++] = counts[i];
  }
#endif
  return found;
}

// Appends first + l for each set bit l of 16, in this order. Writes up to 16 elements beyond the end.
inline int32_t* append_set(int32_t* out, int32_t first, uint32_t bits) {
#if defined(__AVX512F__)
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits),
                                                       _mm512_add_epi32(lanes, _mm512_set1_epi32(first))));
  return out + __builtin_popcount(bits);
#else
  for (; bits; bits &= bits - 1) *out++ = first + __builtin_ctz(bits);
  return out;
#endif
}

// Bit l is set where spikes[l] is negative, for 64 spikes.
inline uint64_t sign_bits(const int8_t* spikes) {
#if defined(__AVX512BW__)
  return _mm512_movepi8_mask(_mm512_loadu_si512(spikes));
#elif defined(__SSE2__)
  uint64_t bits = 0;
  for (int l = 0; l < 64; l += 16)
    bits |= static_cast<uint64_t>(
                static_cast<uint32_t>(_mm_movemask_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(spikes + l)))))
            << l;
  return bits;
#else
  uint64_t bits = 0;
  for (int l = 0; l < 64; l++) bits |= static_cast<uint64_t>(spikes[l] < 0) << l;
  return bits;
#endif
}

// Transposes a square of kTransposed numbers a side.
constexpr int64_t kTransposed = 16;
inline void transpose(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
#if defined(__AVX512F__)
  __m512 a[16], b[16];
  for (int k = 0; k < 16; k++) a[k] = _mm512_loadu_ps(from + k * from_stride);
  for (int k = 0; k < 16; k += 2)
    b[k] = _mm512_unpacklo_ps(a[k], a[k + 1]), b[k + 1] = _mm512_unpackhi_ps(a[k], a[k + 1]);
  for (int k = 0; k < 16; k += 4)
    for (int l = 0; l < 2; l++) {
      const __m512d low = _mm512_castps_pd(b[k + l]), high = _mm512_castps_pd(b[k + l + 2]);
      a[k + 2 * l] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high)),
                a[k + 2 * l + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  for (int k = 0; k < 16; k += 8)
    for (int l = k; l < k + 4; l++)
      b[l] = _mm512_shuffle_f32x4(a[l], a[l + 4], 0x88), b[l + 4] = _mm512_shuffle_f32x4(a[l], a[l + 4], 0xdd);
  for (int l = 0; l < 8; l++)
    a[l] = _mm512_shuffle_f32x4(b[l], b[l + 8], 0x88), a[l + 8] = _mm512_shuffle_f32x4(b[l], b[l + 8], 0xdd);
  for (int k = 0; k < 16; k++) _mm512_storeu_ps(to + k * to_stride, a[k]);
#else
  for (int k = 0; k < kTransposed; k++)
    for (int l = 0; l < kTransposed; l++) to[l * to_stride + k] = from[k * from_stride + l];
#endif
}

}  // namespace
}  // namespace snnfast::cpu
