// Sums over the recurrent neurons of a sample: by events for sparse spikes, dense for gradients. Rows are padded to
// whole vectors; every number is summed in one order, independent of the vector width.
#pragma once
#include "core/recurrent.h"
#include "cpu/lanes.h"

namespace snnfast::cpu {
namespace {

// Lists the indices and values of the nonzero numbers among n; returns their number. Writes up to 16 beyond the end.
inline int32_t list_events(const float* row, int64_t n, int32_t* index, float* value) {
  int32_t found = 0;
#if defined(__AVX512F__)
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 valid = static_cast<__mmask16>(n - i < 16 ? (1u << (n - i)) - 1 : 0xffffu);
    const __m512 numbers = _mm512_maskz_loadu_ps(valid, row + i);
    const __mmask16 some = _mm512_mask_cmp_ps_mask(valid, numbers, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    const __m512i at = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(i)));
    _mm512_storeu_si512(index + found, _mm512_maskz_compress_epi32(some, at));
    _mm512_storeu_ps(value + found, _mm512_maskz_compress_ps(some, numbers));
    found += __builtin_popcount(some);
  }
#else
  for (int32_t i = 0; i < n; i++) {
    index[found] = i;
    value[found] = row[i];
    found += row[i] != 0;
  }
#endif
  return found;
}
inline int32_t list_events(const double* row, int64_t n, int32_t* index, double* value) {
  int32_t found = 0;
  for (int32_t i = 0; i < n; i++) {
    index[found] = i;
    value[found] = row[i];
    found += row[i] != 0;
  }
  return found;
}

// Adds rows, each times its value, in order, to V vectors of a row.
template <int V, class C>
inline void add_rows(C* row, const C* rows, int64_t stride, const int32_t* index, const C* value, int32_t count) {
  constexpr int64_t kLanes = Vectors<C>::kLanes;
  typename Vectors<C>::Type sum[V];
  for (int v = 0; v < V; v++) sum[v] = vector_at(row + v * kLanes);
  for (int32_t e = 0; e < count; e++) {
    const C* from = rows + index[e] * stride;
    for (int v = 0; v < V; v++) sum[v] += value[e] * vector_at(from + v * kLanes);
  }
  for (int v = 0; v < V; v++) vector_at(row + v * kLanes) = sum[v];
}

// Adds V vectors of a row, times the value of each event, to the rows of the events.
template <int V, class C>
inline void add_to_rows(const C* row, C* rows, int64_t stride, const int32_t* index, const C* value, int32_t count) {
  constexpr int64_t kLanes = Vectors<C>::kLanes;
  typename Vectors<C>::Type vectors[V];
  for (int v = 0; v < V; v++) vectors[v] = vector_at(row + v * kLanes);
  for (int32_t e = 0; e < count; e++) {
    C* to = rows + index[e] * stride;
    for (int v = 0; v < V; v++) vector_at(to + v * kLanes) += value[e] * vectors[v];
  }
}

#define SNNFAST_BY_VECTORS(RUN, WIDTH)                         \
  do {                                                         \
    constexpr int64_t kLanes = Vectors<C>::kLanes;             \
    int64_t i = 0;                                             \
    for (; i + 8 * kLanes <= (WIDTH); i += 8 * kLanes) RUN(8); \
    for (; i + 4 * kLanes <= (WIDTH); i += 4 * kLanes) RUN(4); \
    for (; i < (WIDTH); i += kLanes) RUN(1);                   \
  } while (0)

// row[i] += sum over events of value * rows[index][i], in their order.
template <class C>
inline void add_events(C* row, const C* rows, int64_t width, const int32_t* index, const C* value, int32_t count) {
  if (count == 0) return;
#define SNNFAST_RUN(V) add_rows<V>(row + i, rows + i, width, index, value, count)
  SNNFAST_BY_VECTORS(SNNFAST_RUN, width);
#undef SNNFAST_RUN
}

// rows[index][i] += value * row[i] for every event.
template <class C>
inline void add_to_events(const C* row, C* rows, int64_t width, const int32_t* index, const C* value, int32_t count) {
#define SNNFAST_RUN(V) add_to_rows<V>(row + i, rows + i, width, index, value, count)
  SNNFAST_BY_VECTORS(SNNFAST_RUN, width);
#undef SNNFAST_RUN
}

// out[g][j] = sum over i, in order, of in[g][i] * rows[i][j], for G samples: V vectors of j at a time.
template <int G, int V, class C>
inline void dense_tile(const C* in, const C* rows, int64_t H, int64_t width, C* out) {
  constexpr int64_t kLanes = Vectors<C>::kLanes;
  using Vector = typename Vectors<C>::Type;
  Vector sum[G][V] = {};
  for (int64_t i = 0; i < H; i++) {
    Vector row[V];
    for (int v = 0; v < V; v++) row[v] = vector_at(rows + i * width + v * kLanes);
    for (int g = 0; g < G; g++)
      for (int v = 0; v < V; v++) sum[g][v] += in[g * width + i] * row[v];
  }
  for (int g = 0; g < G; g++)
    for (int v = 0; v < V; v++) vector_at(out + g * width + v * kLanes) = sum[g][v];
}

template <int G, class C>
inline void dense_samples(const C* in, const C* rows, int64_t H, int64_t width, C* out) {
  constexpr int64_t kLanes = Vectors<C>::kLanes;
#if defined(__AVX512F__)
  constexpr int V = 4;
#else
  constexpr int V = 2;  // half the registers
#endif
  int64_t j = 0;
  for (; j + V * kLanes <= width; j += V * kLanes) dense_tile<G, V>(in, rows + j, H, width, out + j);
  for (; j < width; j += kLanes) dense_tile<G, 1>(in, rows + j, H, width, out + j);
}

template <class C>
void dense(const C* in, const C* rows, int64_t H, int64_t width, int64_t samples, C* out) {
  for (; samples >= 4; samples -= 4, in += 4 * width, out += 4 * width) dense_samples<4>(in, rows, H, width, out);
  for (; samples > 0; samples--, in += width, out += width) dense_samples<1>(in, rows, H, width, out);
}

}  // namespace
}  // namespace snnfast::cpu
