// Sums over the recurrent neurons of a sample: by events for sparse spikes, dense for gradients. Rows are padded to
// whole vectors; every number is summed in one order, independent of the vector width.
#pragma once
#include <type_traits>

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

// Adds rows, each times its value, in order, to V vectors of a row. Ones: all values are 1; a product with a subnormal
// number would take a hundred cycles.
template <int V, bool Ones, class C>
inline void add_rows(C* row, const C* rows, int64_t stride, const int32_t* index, const C* value, int32_t count) {
  constexpr int64_t kLanes = Vectors<C>::kLanes;
  typename Vectors<C>::Type sum[V];
  for (int v = 0; v < V; v++) sum[v] = vector_at(row + v * kLanes);
  for (int32_t e = 0; e < count; e++) {
    const C* from = rows + index[e] * stride;
    for (int v = 0; v < V; v++)
      if constexpr (Ones)
        sum[v] += vector_at(from + v * kLanes);
      else
        sum[v] += value[e] * vector_at(from + v * kLanes);
  }
  for (int v = 0; v < V; v++) vector_at(row + v * kLanes) = sum[v];
}

template <class C>
inline bool all_ones(const C* value, int32_t count) {
  int32_t others = 0;
  for (int32_t e = 0; e < count; e++) others += value[e] != C(1);
  return others == 0;
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
  const auto add = [&](auto ones) {
#define SNNFAST_RUN(V) add_rows<V, decltype(ones)::value>(row + i, rows + i, width, index, value, count)
    SNNFAST_BY_VECTORS(SNNFAST_RUN, width);
#undef SNNFAST_RUN
  };
  all_ones(value, count) ? add(std::true_type{}) : add(std::false_type{});
}

// sums[j][i] += sum over the events of j, first[j] to first[j + 1], of value * rows[index][i], in their order. Some
// vectors of all rows at a time, which stay in the cache.
template <class C>
inline void add_sorted(const C* rows, int64_t width, int64_t H, const int32_t* first, const int32_t* index,
                       const C* value, C* sums) {
  const auto add = [&](auto ones) {
#define SNNFAST_RUN(V)                                                                                          \
  for (int64_t j = 0; j < H; j++)                                                                               \
  add_rows<V, decltype(ones)::value>(sums + j * width + i, rows + i, width, index + first[j], value + first[j], \
                                     first[j + 1] - first[j])
    SNNFAST_BY_VECTORS(SNNFAST_RUN, width);
#undef SNNFAST_RUN
  };
  all_ones(value, first[H]) ? add(std::true_type{}) : add(std::false_type{});
}

// out[g][j] = sum over i, in order, of in[g][i] * rows[i][j], for G samples, V vectors of j and n rows. `further`: adds
// to out instead.
template <int G, int V, class C>
inline void dense_tile(const C* in, const C* rows, int64_t stride, int64_t n, int64_t width, bool further, C* out) {
  constexpr int64_t kLanes = Vectors<C>::kLanes;
  using Vector = typename Vectors<C>::Type;
  Vector sum[G][V] = {};
  if (further)
    for (int g = 0; g < G; g++)
      for (int v = 0; v < V; v++) sum[g][v] = vector_at(out + g * width + v * kLanes);
  for (int64_t i = 0; i < n; i++) {
    Vector row[V];
    for (int v = 0; v < V; v++) row[v] = vector_at(rows + i * stride + v * kLanes);
    for (int g = 0; g < G; g++)
      for (int v = 0; v < V; v++) sum[g][v] += in[g * width + i] * row[v];
  }
  for (int g = 0; g < G; g++)
    for (int v = 0; v < V; v++) vector_at(out + g * width + v * kLanes) = sum[g][v];
}

constexpr int64_t kDenseRows = 256;

// The same for all samples, from a copy of the rows, which are far apart, if they serve more than once.
template <int V, class C>
inline void dense_block(const C* in, const C* rows, int64_t n, int64_t width, int64_t samples, bool further, C* out) {
  constexpr int64_t kLanes = Vectors<C>::kLanes;
  alignas(64) C block[kDenseRows * V * kLanes];
  int64_t stride = width;
  if (samples > 4) {
    for (int64_t i = 0; i < n; i++)
      for (int v = 0; v < V; v++) {
        const C* from = rows + i * width + v * kLanes;
        vector_at(block + (i * V + v) * kLanes) = vector_at(from);
        __builtin_prefetch(from + V * kLanes, 0, 2);  // the next block
      }
    rows = block;
    stride = V * kLanes;
  }
  int64_t g = 0;
  for (; g + 4 <= samples; g += 4) dense_tile<4, V>(in + g * width, rows, stride, n, width, further, out + g * width);
  for (; g < samples; g++) dense_tile<1, V>(in + g * width, rows, stride, n, width, further, out + g * width);
}

template <class C>
void dense(const C* in, const C* rows, int64_t H, int64_t width, int64_t samples, C* out) {
  constexpr int64_t kLanes = Vectors<C>::kLanes;
#if defined(__AVX512F__)
  constexpr int V = 4;
#else
  constexpr int V = 2;  // half the registers
#endif
  for (int64_t i = 0; i < H; i += kDenseRows, rows += kDenseRows * width) {
    const int64_t n = min(H - i, kDenseRows);
    int64_t j = 0;
    for (; j + V * kLanes <= width; j += V * kLanes)
      dense_block<V>(in + i, rows + j, n, width, samples, i > 0, out + j);
    for (; j < width; j += kLanes) dense_block<1>(in + i, rows + j, n, width, samples, i > 0, out + j);
  }
}

}  // namespace
}  // namespace snnfast::cpu
