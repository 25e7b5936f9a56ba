// A neuron of the spike response model between two events. In units of e / tau an event adds its weight to p, and at a
// time s later u(s) = exp(-s / tau) (q + p s). Also the arguments of the kernels of both devices.
#pragma once
#include <cstdint>

#include "exp.h"
#include "host_device.h"

namespace snnfast {

constexpr double kEuler = 2.718281828459045235;

// Event i K + k is input i through delay k. Those up to t_max are stored in order of time; only those before t_max
// count.
struct SpikePropEvents {
  const void *t_in, *delays;  // [B, I], [K] or [I, K]
  const void* tau_tensor;     // on the device; null if tau is a number
  double tau, v_threshold, t_max, dt;
  int64_t B, I, K, O, N;  // N = I K
  int64_t delay_stride;   // stride of i
  int64_t grid_points;    // 0: exact times
  bool is_double, return_u_max;
  void* times;      // [B, N], inf after the last
  int32_t* order;   // [B, N], -1 after the last
  int32_t* counts;  // [B, 2]: events before t_max, events up to t_max
};

struct SpikePropForward {
  SpikePropEvents events;
  const void* w;                       // [O, N]
  void *t_out, *u_max, *slope, *time;  // [B, O]; time: of the spike, or of the largest potential; if u_max is requested
  int32_t *before, *status;            // [B, O]: events before that time; [1]: SpikePropStatus
};

// Sizes for the caller of the CPU kernels: bytes of memory of a call and of a thread, and the lengths of their loops.
struct SpikePropSizes {
  int64_t memory, sort_scratch, sum_scratch, blocks, pieces;
};

// Errors in the values, and whether any neuron fired.
enum SpikePropStatus : int32_t { kBadInput = 1, kLateInput = 2, kBadDelay = 4, kBadTau = 8, kFired = 16 };

struct SpikePropBackward {
  SpikePropEvents events;
  double slope_min;
  const void* w;
  const void *grad_t, *grad_u;  // may be null
  const void *t_out, *slope, *time;
  const int32_t* before;
  void *grad_t_in, *grad_w, *grad_delays, *grad_tau;  // null if not requested
};

namespace {

template <class C>
SNNFAST_HD double spikeprop_tau(const SpikePropEvents& a) {
  return a.tau_tensor ? static_cast<double>(*static_cast<const C*>(a.tau_tensor)) : a.tau;
}

// Number of events of sample b up to t_max. Clamped, since a tape may come from the user.
SNNFAST_HD int64_t spikeprop_kept(const SpikePropEvents& a, int64_t b) {
  const int64_t count = a.counts[2 * b + 1];
  return min(count, a.N);
}

// Constants of one call, in the compute type.
template <class C>
struct SpikePropConstants {
  C tau, inverse_tau, threshold, scale;  // threshold in units of scale = e / tau
  C slope_of_threshold;                  // threshold / tau, in those units

  SNNFAST_HD explicit SpikePropConstants(const SpikePropEvents& a) {
    const double t = spikeprop_tau<C>(a);
    tau = static_cast<C>(t);
    inverse_tau = static_cast<C>(1 / t);
    scale = static_cast<C>(kEuler / t);
    threshold = static_cast<C>(a.v_threshold * t / kEuler);
    slope_of_threshold = static_cast<C>(a.v_threshold / kEuler);
  }
};

template <class C>
SNNFAST_HD C spikeprop_potential(C q, C p, C s, C inverse_tau) {
  return exp_nonpositive(-s * inverse_tau) * (q + p * s);
}

template <class C>
SNNFAST_HD C spikeprop_slope(C q, C p, C s, C inverse_tau) {
  return exp_nonpositive(-s * inverse_tau) * (p - (q + p * s) * inverse_tau);
}

// q + p s - threshold exp(s / tau) is concave in s. So a neuron below the threshold that reaches it within `length` has
// q + p length >= threshold (1 + length / tau): one comparison rejects almost everything but crossings. The bound is
// slightly lower, so that rounding hides none.
template <class C>
SNNFAST_HD C spikeprop_bound(double length, double inverse_tau, double threshold) {
  constexpr double slack = sizeof(C) == 8 ? 1e-15 : 5e-7;
  return static_cast<C>(threshold * (1 + length * inverse_tau) * (1 - slack));
}

// Time to the highest point within `length`, for p > 0.
template <class C>
SNNFAST_HD C spikeprop_top(C q, C p, C length, C tau) {
  const C top = tau - q / p;
  return top < length ? top : length;
}

// One Newton step towards the threshold from s left of the crossing. The function is concave, so no step passes the
// crossing; a safeguard is needed only against rounding near the top.
template <class C>
SNNFAST_HD C spikeprop_newton(C q, C p, C s, C top, const SpikePropConstants<C>& c) {
  const C decay = exp_nonpositive(-s * c.inverse_tau);
  const C gap = c.threshold - decay * (q + p * s);
  const C slope = decay * p - c.slope_of_threshold;
  const C next = s + gap / (slope > 0 ? slope : C(1));
  const C bounded = slope > 0 && next < top ? next : top;
  return gap > 0 ? bounded : s;
}

// Maximum number of steps, until the change is lost in the rounding of the time. Where the potential only grazes the
// threshold, steps halve the distance, down to half the digits.
constexpr int kSpikePropSteps = 60;
template <class C>
constexpr C kSpikePropRounding = sizeof(C) == 8 ? C(5e-17) : C(3e-8);

}  // namespace
}  // namespace snnfast
