// exp(x) without a branch or a call, so that loops over it vectorise and every device rounds alike. Cody-Waite
// reduction and the Taylor polynomial on |r| <= ln(2)/2: relative error below 2 ulp.
#pragma once
#include "bit_cast.h"
#if defined(__CUDACC__) || defined(SNNFAST_CUDA_EMULATION)
#include <cmath>
#endif
#ifdef __CUDACC__
#include <nv/target>
#endif

namespace snnfast {
namespace {

// 1 / x for x from 2^-126 to 2^126. On a GPU: nvcc's division without its checks for other values; rounds alike.
SNNFAST_HD float reciprocal(float x) {
#ifdef __CUDACC__
  NV_IF_TARGET(NV_IS_DEVICE, (float guess; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(guess) : "f"(x));
                              return fmaf(guess, fmaf(-x, guess, 1.f), guess);))
#endif
  return 1.f / x;
}

// exp(x) for x from -104 to 89 is 2^n times the result, with n in the low bits of `shifted`.
SNNFAST_HD float exp_remainder(float x, float& shifted) {
  shifted = x * 1.44269504f + 12582912.f;  // 1.5 * 2^23: the low bits now hold round(x / ln 2)
  const float n = shifted - 12582912.f;
#if defined(__CUDACC__) || defined(SNNFAST_CUDA_EMULATION)
  const float high = fmaf(n, -0.693145752f, x);  // the product has no rounding
#else
  const float high = x - n * 0.693145752f;
#endif
  const float r = high - n * 1.42860677e-6f;
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  return p;
}
SNNFAST_HD float exp_nonpositive(float x) {
  float shifted;
  const float p = exp_remainder(x < -87.f ? -87.f : x, shifted);
  return p * bit_cast<float>((bit_cast<uint32_t>(shifted) << 23) + (127u << 23));
}
// The same for x from -87 to 0 that is not NaN: no product is subnormal, so the exponents can be added.
SNNFAST_HD float exp_within(float x) {
  float shifted;
  const float p = exp_remainder(x, shifted);
  return bit_cast<float>(bit_cast<uint32_t>(p) + (bit_cast<uint32_t>(shifted) << 23));
}

// The same in double, for x from -746 to 710.
SNNFAST_HD double exp_remainder(double x, double& shifted) {
  shifted = x * 1.4426950408889634 + 6755399441055744.;  // 1.5 * 2^52
  const double n = shifted - 6755399441055744.;
  const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double p = 1.6059043836821613e-10;
  p = p * r + 2.08767569878681e-09;
  p = p * r + 2.505210838544172e-08;
  p = p * r + 2.755731922398589e-07;
  p = p * r + 2.7557319223985893e-06;
  p = p * r + 2.48015873015873e-05;
  p = p * r + 1.984126984126984e-04;
  p = p * r + 1.388888888888889e-03;
  p = p * r + 8.333333333333333e-03;
  p = p * r + 4.1666666666666664e-02;
  p = p * r + 1.6666666666666666e-01;
  p = p * r + 0.5;
  p = p * r + 1.;
  p = p * r + 1.;
  return p;
}
SNNFAST_HD double exp_nonpositive(double x) {
  double shifted;
  const double p = exp_remainder(x < -708. ? -708. : x, shifted);
  return p * bit_cast<double>((bit_cast<uint64_t>(shifted) + 1023u) << 52);
}

// exp(x) for any x: 0, subnormal or infinite where exp is. Two factors make 2^n, since one number cannot hold it.
SNNFAST_HD float exponential(float x) {
  float shifted;
  const float p = exp_remainder(x < -104.f ? -104.f : x > 89.f ? 89.f : x, shifted);
  const uint32_t n = bit_cast<uint32_t>(shifted), half = n >> 1;
  return p * bit_cast<float>((half + 127u) << 23) * bit_cast<float>((n - half + 127u) << 23);
}
SNNFAST_HD double exponential(double x) {
  double shifted;
  const double p = exp_remainder(x < -746. ? -746. : x > 710. ? 710. : x, shifted);
  const uint64_t n = bit_cast<uint64_t>(shifted), half = n >> 1;
  return p * bit_cast<double>((half + 1023u) << 52) * bit_cast<double>((n - half + 1023u) << 52);
}

// exp(x / by), at most the largest inverse of exp_nonpositive: e^87 in float. `per` is 1 / by.
template <class C>
SNNFAST_HD C exp_quotient(C x, C by, [[maybe_unused]] C per) {
  const C z = x / by, small = exp_nonpositive(z < C(0) ? z : -z);
  return z < C(0) ? small : C(1) / small;
}
#if defined(__CUDACC__) || defined(SNNFAST_CUDA_EMULATION)
// The same bits for |by| from 2^-77 to 2^126, without a division: the remainder of the guess is exact where exp(z) is
// not 1. Where the guess is infinite, z is NaN, which fminf replaces by 87.
SNNFAST_HD float exp_quotient(float x, float by, float per) {
  const float guess = x * per;
  const float z = fmaf(fmaf(guess, -by, x), per, guess), small = exp_within(-fminf(fabsf(z), 87.f));
  return guess < 0.f ? small : reciprocal(small);
}
#endif

}  // namespace
}  // namespace snnfast
