// Updates of rows of weights by BP-STDP, for one layer pair and for networks.
#pragma once
#include <cstdint>

#include "core/host_device.h"
#include "cpu/lanes.h"

namespace snnfast::cpu {
namespace {

constexpr int64_t kSlots = 128;  // slots whose windows fit in the L2 cache beside the weights

// row[i] += sum of factor[k] windows[k stride + i] over the `count` slots[k], in this order, for i in [0, V lanes).
template <class C, int V>
inline void add_windows(C* row, const C* windows, int64_t stride, const int32_t* slots, const C* factors,
                        int64_t count) {
  using Vector = typename Vectors<C>::Type;
  constexpr int kLanes = Vectors<C>::kLanes;
  Vector sum[V];
  for (int v = 0; v < V; v++) sum[v] = vector_at(row + v * kLanes);
  for (int64_t k = 0; k < count; k++) {
    const C* window = windows + slots[k] * stride;
    const C factor = factors[k];
    for (int v = 0; v < V; v++) sum[v] += factor * vector_at(window + v * kLanes);
  }
  for (int v = 0; v < V; v++) vector_at(row + v * kLanes) = sum[v];
}

// w[o, i] += scale error[k, o] windows[k, i], k = 0, 1, ..., for o in [begin, end).
template <class C>
void add_changes(C* w, int64_t I, const C* errors, int64_t error_stride, C scale, const C* windows,
                 int64_t window_stride, int64_t count, int64_t begin, int64_t end) {
  constexpr int kLanes = Vectors<C>::kLanes;
  int32_t slots[kSlots];
  C factors[kSlots];
  for (int64_t k0 = 0; k0 < count; k0 += kSlots) {
    const int64_t last = min(count - k0, kSlots);
    const C* chunk = windows + k0 * window_stride;
    for (int64_t o = begin; o < end; o++) {
      int64_t used = 0;
      for (int64_t k = 0; k < last; k++) {
        const C error = errors[(k0 + k) * error_stride + o];
        slots[used] = static_cast<int32_t>(k), factors[used] = scale * error;
        used += error != 0;
      }
      if (used == 0) continue;
      C* row = w + o * I;
      int64_t i = 0;
      for (; i + 8 * kLanes <= I; i += 8 * kLanes)
        add_windows<C, 8>(row + i, chunk + i, window_stride, slots, factors, used);
      for (; i + kLanes <= I; i += kLanes) add_windows<C, 1>(row + i, chunk + i, window_stride, slots, factors, used);
      for (; i < I; i++)
        for (int64_t k = 0; k < used; k++) row[i] += factors[k] * chunk[slots[k] * window_stride + i];
    }
  }
}

// to[i] = sum of error[o] w[o, i] over o, or 0 if the window of i has no spike.
template <class C>
void pass_back(const C* w, int64_t I, int64_t O, const C* error, const int32_t* window, C* to) {
  for (int64_t i = 0; i < I; i++) to[i] = 0;
  for (int64_t o = 0; o < O; o++) {
    const C factor = error[o];
    if (factor == 0) continue;
    const C* row = w + o * I;
    SNNFAST_SIMD
    for (int64_t i = 0; i < I; i++) to[i] += factor * row[i];
  }
  SNNFAST_SIMD
  for (int64_t i = 0; i < I; i++) to[i] = window[i] > 0 ? to[i] : 0;
}

}  // namespace
}  // namespace snnfast::cpu
