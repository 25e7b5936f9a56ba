#include "core/batch_norm.h"

#include "cpu/channels.h"
#include "cpu/lanes.h"
#include "cpu/rows.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

// Adds the sums over a few rows of G vectors of L channels, computed in the compute type, to the float64 sums of the
// block.
template <class T, int L, int G, bool kGrad>
inline void add_channels(const BatchNormSums& a, int64_t begin, int64_t end, int64_t channel) {
  using Stored = Channels<T, L>;
  using C = typename Stored::Compute;
  using V = typename Stored::Type;
  V center[G], first[G] = {}, second[G] = {};
  SNNFAST_UNROLL
  for (int g = 0; g < G; g++) center[g] = Channels<C, L>::load(static_cast<const C*>(a.center) + channel + g * L);
  const T* x = static_cast<const T*>(a.x) + begin * a.C + channel;
  const T* grad = kGrad ? static_cast<const T*>(a.grad) + begin * a.C + channel : x;
  for (int64_t r = begin; r < end; r++, x += a.C, grad += a.C) {
    SNNFAST_UNROLL
    for (int g = 0; g < G; g++) {
      const V deviation = Stored::load(x + g * L) - center[g];
      const V factor = kGrad ? Stored::load(grad + g * L) : deviation;
      first[g] += factor;
      second[g] += factor * deviation;
    }
  }
  const auto add = [](double* to, const V& sum) {
    C values[L];
    Channels<C, L>::store(values, sum);
    for (int l = 0; l < L; l++) to[l] += values[l];
  };
  SNNFAST_UNROLL
  for (int g = 0; g < G; g++) add(a.sums + channel + g * L, first[g]), add(a.sums + a.C + channel + g * L, second[g]);
}

// Channels from `channel` on; the remainder after the last whole group uses fewer and narrower vectors.
template <class T, int L, int G, bool kGrad>
inline void add_rows(const BatchNormSums& a, int64_t begin, int64_t end, int64_t channel) {
  for (; channel + L * G <= a.C; channel += L * G) add_channels<T, L, G, kGrad>(a, begin, end, channel);
  if (channel == a.C) return;
  if constexpr (G > 1)
    add_rows<T, L, G / 2, kGrad>(a, begin, end, channel);
  else if constexpr (L > 1)
    add_rows<T, L / 2, 1, kGrad>(a, begin, end, channel);
}

template <class T, bool kGrad>
void sums_of(BatchNormSums a, int64_t begin, int64_t end) {
  constexpr int L = Vectors<typename Channels<T, 1>::Compute>::kLanes;
  double* const sums = a.sums;
  for (int64_t u = begin; u < end; u++) {
    a.sums = sums + u * 2 * a.C;
    for (int64_t c = 0; c < 2 * a.C; c++) a.sums[c] = 0;
    const int64_t last = min((u + 1) * a.block, a.rows);
    for (int64_t r = u * a.block; r < last; r += kBatchNormRows)
      add_rows<T, L, 4, kGrad>(a, r, min(r + kBatchNormRows, last), 0);
  }
}

template <class T, int L, bool kGrad>
inline typename Channels<T, L>::Type result_of(const BatchNormResult& a, const T* x, const T* grad, int64_t c) {
  using Stored = Channels<T, L>;
  using C = typename Stored::Compute;
  const auto at = [&](const void* values) { return Channels<C, L>::load(static_cast<const C*>(values) + c); };
  const auto normalized = at(a.slope) * (Stored::load(x + c) - at(a.mean)) + at(a.shift);
  return Stored::round(kGrad ? at(a.scale) * ((Stored::load(grad + c) - at(a.grad_mean)) + normalized) : normalized);
}

// Results of a row from `channel` on.
template <class T, int L, bool kGrad>
inline void result_row(const BatchNormResult& a, const T* x, const T* grad, T* to, int64_t channel) {
  for (; channel + L <= a.C; channel += L)
    Channels<T, L>::store(to + channel, result_of<T, L, kGrad>(a, x, grad, channel));
  if constexpr (L > 1)
    if (channel < a.C) result_row<T, L / 2, kGrad>(a, x, grad, to, channel);
}

template <class T, bool kGrad>
void results_of(const BatchNormResult& a, int64_t begin, int64_t end) {
  constexpr int L = Vectors<typename Channels<T, 1>::Compute>::kLanes;
  const bool streaming = kStreamLine == L * sizeof(T) && a.C % L == 0 &&
                         reinterpret_cast<uintptr_t>(a.result) % 64 == 0 && streams<T>(a.rows, a.C);
  // Last block first: the caches still hold it.
  for (int64_t u = end - 1; u >= begin; u--) {
    const int64_t last = min((u + 1) * a.block, a.rows);
    for (int64_t r = u * a.block; r < last; r++) {
      const T* x = static_cast<const T*>(a.x) + r * a.C;
      const T* grad = kGrad ? static_cast<const T*>(a.grad) + r * a.C : nullptr;
      T* to = static_cast<T*>(a.result) + r * a.C;
      if (streaming)
        for (int64_t c = 0; c < a.C; c += L) {
          const auto value = result_of<T, L, kGrad>(a, x, grad, c);
          stream_line(to + c, &value);
        }
      else
        result_row<T, L, kGrad>(a, x, grad, to, 0);
    }
  }
  stream_done();
}

template <class T>
void sums_as(const BatchNormSums& a, int64_t begin, int64_t end) {
  a.grad ? sums_of<T, true>(a, begin, end) : sums_of<T, false>(a, begin, end);
}

template <class T>
void results_as(const BatchNormResult& a, int64_t begin, int64_t end) {
  a.grad ? results_of<T, true>(a, begin, end) : results_of<T, false>(a, begin, end);
}

}  // namespace

// The sums of the blocks [begin, end).
void batch_norm_sums(const BatchNormSums& a, int64_t begin, int64_t end) {
  switch (a.dtype) {
    case Dtype::f64: return sums_as<double>(a, begin, end);
    case Dtype::bf16: return sums_as<BFloat16>(a, begin, end);
    default: return sums_as<float>(a, begin, end);
  }
}

// The results of the blocks [begin, end).
void batch_norm_result(const BatchNormResult& a, int64_t begin, int64_t end) {
  switch (a.dtype) {
    case Dtype::f64: return results_as<double>(a, begin, end);
    case Dtype::bf16: return results_as<BFloat16>(a, begin, end);
    default: return results_as<float>(a, begin, end);
  }
}

}  // namespace snnfast::cpu::SNNFAST_ISA
