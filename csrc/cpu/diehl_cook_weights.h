// Weights of the network of Diehl and Cook in groups of neurons, and bounds on what they add to membrane potentials.
#pragma once
#include <cstring>

#include "cpu/diehl_cook_memory.h"

namespace snnfast::cpu {
namespace {

constexpr int64_t kWorthCopying = 16;  // number of presentations from which copying to the grouped layout pays off

template <class C>
struct Simd {
  static constexpr int64_t kLanes = 64 / sizeof(C), kVectors = kGroup / kLanes;
  typedef C Vector __attribute__((vector_size(64)));
  typedef C Anywhere __attribute__((vector_size(64), aligned(sizeof(C)), may_alias));
};

template <class C>
inline C infinity() {
  return C(__builtin_inf());
}

template <class C>
inline C magnitude(C x) {
  return x < 0 ? -x : x;
}

template <class C>
void bound_group(const DiehlCook& a, const DiehlCookWeights<C>& w, int64_t g) {
  const int64_t lanes = min(a.N - g * kGroup, kGroup);
  C largest = *w.largest;
  for (int64_t i = 0; i < a.x.I; i++) {
    const C* row = w.weights[g] + i * w.stride[g];
    C bound = 0;
    if (lanes == kGroup) {
      alignas(64) C most[16] = {};
      for (int64_t n = 0; n < kGroup; n += 16) {
        SNNFAST_SIMD
        for (int64_t k = 0; k < 16; k++) {
          const C m = magnitude(row[n + k]);
          most[k] = m > most[k] ? m : most[k];
        }
      }
      for (int k = 0; k < 16; k++) bound = most[k] > bound ? most[k] : bound;
    } else {
      for (int64_t n = 0; n < lanes; n++) bound = magnitude(row[n]) > bound ? magnitude(row[n]) : bound;
    }
    w.bound[i * w.padded_groups + g] = bound;
    largest = bound > largest ? bound : largest;
  }
  *w.largest = largest;
}

// Lays the weights out before the first presentation.
template <class C>
void prepare(const DiehlCook& a, char* memory) {
  Arena arena(memory);
  const DiehlCookWeights<C> w(a, arena);
  const C* from = static_cast<const C*>(a.w);
  *w.largest = 0;
  if (w.lazy) memset(w.bound, 0, sizeof(C) * static_cast<size_t>(a.x.I * w.padded_groups));
  for (int64_t g = 0; g < w.groups; g++) {
    const int64_t n0 = g * kGroup, lanes = min(a.N - n0, kGroup);
    w.changed[g] = false;
    if (a.w_stride_neuron == 1 && lanes == kGroup && a.x.P < kWorthCopying) {
      w.weights[g] = static_cast<C*>(a.w) + n0;
      w.stride[g] = a.w_stride_input;
    } else {
      C* to = w.copies + g * a.x.I * kGroup;
      w.weights[g] = to;
      w.stride[g] = kGroup;
      if (a.w_stride_neuron == 1) {
        for (int64_t i = 0; i < a.x.I; i++, to += kGroup) {
          const C* row = from + n0 + i * a.w_stride_input;
          for (int64_t n = 0; n < lanes; n++) to[n] = row[n];
          for (int64_t n = lanes; n < kGroup; n++) to[n] = 0;
        }
      } else {
        for (int64_t n = 0; n < kGroup; n++) {
          const C* column = from + (n0 + n) * a.w_stride_neuron;
          for (int64_t i = 0; i < a.x.I; i++) to[i * kGroup + n] = n < lanes ? column[i * a.w_stride_input] : C(0);
        }
      }
    }
    if (w.lazy) bound_group(a, w, g);
  }
}

// Copies changed weights back to the caller's tensor.
template <class C>
void finish(const DiehlCook& a, char* memory) {
  Arena arena(memory);
  const DiehlCookWeights<C> w(a, arena);
  for (int64_t g = 0; g < w.groups; g++) {
    const int64_t n0 = g * kGroup, lanes = min(a.N - n0, kGroup);
    C* const to = static_cast<C*>(a.w) + n0 * a.w_stride_neuron;
    if (!w.changed[g] || w.weights[g] == to) continue;
    if (a.w_stride_neuron == 1) {
      for (int64_t i = 0; i < a.x.I; i++)
        for (int64_t n = 0; n < lanes; n++) to[i * a.w_stride_input + n] = w.weights[g][i * kGroup + n];
    } else {
      for (int64_t n = 0; n < lanes; n++)
        for (int64_t i = 0; i < a.x.I; i++)
          to[n * a.w_stride_neuron + i * a.w_stride_input] = w.weights[g][i * kGroup + n];
    }
  }
}

}  // namespace
}  // namespace snnfast::cpu
