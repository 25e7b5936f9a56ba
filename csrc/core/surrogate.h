// Derivatives of the spike with respect to u = h - v_threshold. Names, order and formulas are those of
// snnfast/surrogate.py.
#pragma once
#include <type_traits>

#include "exp.h"
#include "host_device.h"

namespace snnfast {

enum class Surrogate : int32_t { atan, sigmoid, fast_sigmoid, rectangle, triangle, gaussian, straight_through, count };

namespace {

// exp(x) for x <= 0; 0 below the range of exp_nonpositive.
template <class C>
SNNFAST_HD C exp_vanishing(C x) {
  return x < (sizeof(C) == 8 ? C(-708) : C(-87)) ? C(0) : exp_nonpositive(x);
}

template <Surrogate S, class C>
SNNFAST_HD C surrogate_derivative(C u, C alpha) {
  const C magnitude = u < 0 ? -u : u;
  if constexpr (S == Surrogate::atan) {
    const C q = C(1.5707963267948966) * alpha * u;
    return C(0.5) * alpha / (C(1) + q * q);
  } else if constexpr (S == Surrogate::sigmoid) {
    const C e = exp_vanishing(-alpha * magnitude);
    return alpha * e / ((C(1) + e) * (C(1) + e));
  } else if constexpr (S == Surrogate::fast_sigmoid) {
    const C q = C(1) + alpha * magnitude;
    return C(1) / (q * q);
  } else if constexpr (S == Surrogate::rectangle) {
    const C half = C(0.5) / alpha;
    return magnitude < half ? alpha : magnitude >= half ? C(0) : u;  // NaN stays NaN
  } else if constexpr (S == Surrogate::triangle) {
    const C q = alpha - alpha * alpha * magnitude;
    return q < 0 ? C(0) : q;
  } else if constexpr (S == Surrogate::gaussian) {
    const C q = alpha * u;
    return alpha * C(0.5641895835477563) * exp_vanishing(-q * q);  // 1 / sqrt(pi)
  } else {
    return C(1);
  }
}

// Calls f(std::integral_constant) with the surrogate as a compile-time constant.
template <class F>
inline auto with_surrogate(int32_t number, const F& f) {
  switch (static_cast<Surrogate>(number)) {
    case Surrogate::atan: return f(std::integral_constant<Surrogate, Surrogate::atan>{});
    case Surrogate::sigmoid: return f(std::integral_constant<Surrogate, Surrogate::sigmoid>{});
    case Surrogate::fast_sigmoid: return f(std::integral_constant<Surrogate, Surrogate::fast_sigmoid>{});
    case Surrogate::rectangle: return f(std::integral_constant<Surrogate, Surrogate::rectangle>{});
    case Surrogate::triangle: return f(std::integral_constant<Surrogate, Surrogate::triangle>{});
    case Surrogate::gaussian: return f(std::integral_constant<Surrogate, Surrogate::gaussian>{});
    default: return f(std::integral_constant<Surrogate, Surrogate::straight_through>{});
  }
}

}  // namespace
}  // namespace snnfast
