// Delays: the earlier steps that the output of a neuron depends on, and their weights.
#pragma once
#include <cmath>

#include "neuron.h"

#define SNNFAST_DELAY_ARGUMENTS(FIELD) \
  FIELD(Tensor, x)                     \
  FIELD(Parameter, d)                  \
  FIELD(Optional, past)                \
  FIELD(double, sigma)

namespace snnfast {

struct DelayScan {
  int64_t T, P, N;  // steps of x and of past
  Rows x, past;     // [T, N], [P, N]
  Param d;
  double radius;  // 1 + sigma: steps at this distance from d or farther have weight 0
};

struct DelayForward : DelayScan {
  void* y;  // [T, N] in x's dtype
};

struct DelayBackward : DelayScan {
  Rows grad_y;      // [T, N]
  void* grad_x;     // [T, N] in x's dtype or null
  void* grad_past;  // [P, N] in x's dtype or null
  void* grad_d;     // [N] in the compute type or null: summed over time
};

constexpr int64_t kDelayBlock = 128;  // neurons of a block of the CPU kernels

namespace {

// Steps back with a nonzero weight lie in (d - radius, d + radius], which holds at most ceil(2 radius) of them.
// delay_taps is this number, limited to the number of steps.
inline int64_t delay_taps(const DelayScan& a) {
  const double most = ::ceil(2. * a.radius);
  const int64_t steps = a.T + a.P;
  return most < static_cast<double>(steps) ? static_cast<int64_t>(most) : steps;
}

template <class C>
struct DelayTaps {
  C d, radius, scale;
  int64_t begin;  // the first step back, at least 0
  double end;     // past the last step back
  bool clamped;   // d lies outside the sequence or is NaN: it has no gradient

  SNNFAST_HD DelayTaps(const DelayScan& a, int64_t n) {
    d = param_of_neuron<C>(a.d, n);
    radius = static_cast<C>(a.radius);
    scale = static_cast<C>(1. / (a.radius * a.radius));
    const double steps = static_cast<double>(a.T + a.P), reach = ::ceil(2. * a.radius);
    const C most = static_cast<C>(steps + reach);
    clamped = !(d >= C(0) && d <= most);
    d = d < C(0) ? C(0) : d > most ? most : d;
    // NaN begins anywhere: its weights are NaN.
    const double first = ::floor(static_cast<double>(d - radius)) + 1.;
    begin = !(first > 0.) ? 0 : first < steps ? static_cast<int64_t>(first) : a.T + a.P;
    end = first + reach;
  }

  // Weight of the input j steps back, a triangle around d; and its derivative with respect to d, from the right at
  // corners.
  SNNFAST_HD C weight(int64_t j) const {
    const C at = static_cast<C>(j);
    return outside(at) ? C(0) : (at <= d ? radius - (d - at) : radius - (at - d)) * scale;
  }
  SNNFAST_HD C slope(int64_t j) const {
    const C at = static_cast<C>(j);
    return clamped || outside(at) ? C(0) : at <= d ? -scale : scale;
  }
  SNNFAST_HD bool outside(C at) const { return at > d + radius || static_cast<double>(at) >= end; }
};

// Bytes of scratch memory of a block.
inline size_t delay_scratch(const DelayScan& a) {
  const size_t real = a.x.dtype == Dtype::f64 ? sizeof(double) : sizeof(float);
  return real * static_cast<size_t>(kDelayBlock * (2 * (a.T + a.P) + 3 * delay_taps(a) + 64));
}

}  // namespace
}  // namespace snnfast
