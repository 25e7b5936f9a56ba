// One synapse of spike-timing-dependent plasticity and one step. Formulas, names and order are those of
// snnfast/reference/plasticity.py.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "exp.h"
#include "host_device.h"
#include "pow.h"

// The numbers of Constants in snnfast/reference/plasticity.py.
#define SNNFAST_PLASTICITY_ARGUMENTS(FIELD) \
  FIELD(int64_t, kind)                      \
  FIELD(bool, all)                          \
  SNNFAST_PLASTICITY_NUMBERS(FIELD)
#define SNNFAST_PLASTICITY_NUMBERS(FIELD) \
  FIELD(double, decay_pre)                \
  FIELD(double, decay_post)               \
  FIELD(double, decay_pre2)               \
  FIELD(double, decay_post2)              \
  FIELD(double, lr_pre)                   \
  FIELD(double, lr_post)                  \
  FIELD(double, lr_pre_triplet)           \
  FIELD(double, lr_post_triplet)          \
  FIELD(double, x_tar)                    \
  FIELD(double, mu)                       \
  FIELD(double, beta)                     \
  FIELD(double, w_min)                    \
  FIELD(double, w_max)

namespace snnfast {

enum class PlasticityKind : int32_t { additive, linear, power, exponential, triplet, count };

template <class C>
struct Plasticity {
  PlasticityKind kind;
  bool all;  // traces are incremented on a spike, not set to 1
  C decay_pre, decay_post, decay_pre2, decay_post2;
  C lr_pre, lr_post, lr_pre_triplet, lr_post_triplet;
  C x_tar, mu, beta, w_min, w_max;

  SNNFAST_HD bool depresses() const { return lr_pre != 0 || lr_pre_triplet != 0; }
};

// Calls f(std::integral_constant) with the kind as a compile-time constant.
template <class F>
inline auto with_kind(PlasticityKind kind, const F& f) {
  switch (kind) {
    case PlasticityKind::additive: return f(std::integral_constant<PlasticityKind, PlasticityKind::additive>{});
    case PlasticityKind::linear: return f(std::integral_constant<PlasticityKind, PlasticityKind::linear>{});
    case PlasticityKind::power: return f(std::integral_constant<PlasticityKind, PlasticityKind::power>{});
    case PlasticityKind::exponential: return f(std::integral_constant<PlasticityKind, PlasticityKind::exponential>{});
    default: return f(std::integral_constant<PlasticityKind, PlasticityKind::triplet>{});
  }
}

// Converts the numbers to type C, from another type or from the arguments of an operator.
template <class C, class Constants>
SNNFAST_HD Plasticity<C> plasticity(const Constants& from) {
  Plasticity<C> p;
#define SNNFAST_CONVERT_FIELD(TYPE, NAME) p.NAME = static_cast<decltype(p.NAME)>(from.NAME);
  SNNFAST_PLASTICITY_ARGUMENTS(SNNFAST_CONVERT_FIELD)
#undef SNNFAST_CONVERT_FIELD
  return p;
}

// Reads the numbers of a rule, in order.
SNNFAST_HD void read_rule(Plasticity<double>& to, const double*& from) {
#define SNNFAST_READ_NUMBER(TYPE, NAME) to.NAME = *from++;
  SNNFAST_PLASTICITY_NUMBERS(SNNFAST_READ_NUMBER)
#undef SNNFAST_READ_NUMBER
}

namespace {

// Trace after the decay and the spike of its neuron, if any.
template <class C>
SNNFAST_HD C stdp_trace(C decayed, bool spike, bool all) {
  return spike ? (all ? decayed + C(1) : C(1)) : decayed;
}

// float64 uses the C library and equals the reference bit for bit; float32 is fast.
SNNFAST_HD double stdp_pow(double base, double exponent) { return std::pow(base, exponent); }
SNNFAST_HD float stdp_pow(float base, float exponent) { return pow_nonnegative(base, exponent); }
SNNFAST_HD double stdp_exp(double x) { return std::exp(x); }
SNNFAST_HD float stdp_exp(float x) { return exp_nonpositive(x); }

// Factor of potentiation that depends on the weight: the same for all spikes that meet the same weight.
template <class C>
struct StdpGrowth {
  C up, down;
};

template <PlasticityKind K, class C>
SNNFAST_HD StdpGrowth<C> stdp_growth(const Plasticity<C>& p, C w) {
  if constexpr (K == PlasticityKind::linear) {
    return {p.w_max - w, C(0)};
  } else if constexpr (K == PlasticityKind::power) {
    return {stdp_pow(p.w_max - w, p.mu), C(0)};
  } else if constexpr (K == PlasticityKind::exponential) {
    return {stdp_exp(-p.beta * (w - p.w_min)), stdp_exp(-p.beta * (p.w_max - w))};
  } else {
    return {C(1), C(0)};
  }
}

// Growth of the weight at a postsynaptic spike.
template <PlasticityKind K, class C>
SNNFAST_HD C stdp_potentiation(const Plasticity<C>& p, const StdpGrowth<C>& growth, C x_pre, C x_post2) {
  if constexpr (K == PlasticityKind::additive) {
    return p.lr_post * (x_pre - p.x_tar);
  } else if constexpr (K == PlasticityKind::exponential) {
    return p.lr_post * (x_pre * growth.up - p.x_tar * growth.down);
  } else if constexpr (K == PlasticityKind::triplet) {
    return x_pre * (p.lr_post + p.lr_post_triplet * x_post2);
  } else {
    return p.lr_post * (x_pre - p.x_tar) * growth.up;
  }
}

template <PlasticityKind K, class C>
SNNFAST_HD C stdp_potentiation(const Plasticity<C>& p, C w, C x_pre, C x_post2) {
  return stdp_potentiation<K>(p, stdp_growth<K>(p, w), x_pre, x_post2);
}

// Factor of depression that depends on the weight.
template <PlasticityKind K, class C>
SNNFAST_HD C stdp_shrinkage(const Plasticity<C>& p, C w) {
  if constexpr (K == PlasticityKind::linear) {
    return w - p.w_min;
  } else if constexpr (K == PlasticityKind::power) {
    return stdp_pow(w - p.w_min, p.mu);
  } else {
    return C(1);
  }
}

// Factor of depression that does not depend on the weight: lr_pre x_post, for the triplet rule with the second trace.
template <PlasticityKind K, class C>
SNNFAST_HD C stdp_loss(const Plasticity<C>& p, C x_post, C x_pre2) {
  if constexpr (K == PlasticityKind::triplet) {
    return x_post * (p.lr_pre + p.lr_pre_triplet * x_pre2);
  } else {
    return p.lr_pre * x_post;
  }
}

// Loss of the weight at a presynaptic spike.
template <PlasticityKind K, class C>
SNNFAST_HD C stdp_depression(const Plasticity<C>& p, C w, C x_post, C x_pre2) {
  return stdp_loss<K>(p, x_post, x_pre2) * stdp_shrinkage<K>(p, w);
}

template <class C>
SNNFAST_HD C stdp_clamp(const Plasticity<C>& p, C w) {
  return w < p.w_min ? p.w_min : w > p.w_max ? p.w_max : w;
}

}  // namespace
}  // namespace snnfast
