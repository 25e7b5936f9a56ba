// Functions of one number that generated neurons call, branch-free, so that loops over them vectorise. exp is in exp.h;
// snnfast/reference/functions.py builds all others from these.
#pragma once
#include "exp.h"

namespace snnfast {
namespace {

SNNFAST_HD float absolute(float x) { return __builtin_fabsf(x); }
SNNFAST_HD double absolute(double x) { return __builtin_fabs(x); }
SNNFAST_HD float square_root(float x) { return __builtin_sqrtf(x); }
SNNFAST_HD double square_root(double x) { return __builtin_sqrt(x); }
SNNFAST_HD float floor_of(float x) { return __builtin_floorf(x); }
SNNFAST_HD double floor_of(double x) { return __builtin_floor(x); }
SNNFAST_HD float ceil_of(float x) { return __builtin_ceilf(x); }
SNNFAST_HD double ceil_of(double x) { return __builtin_ceil(x); }
SNNFAST_HD float truncated(float x) { return __builtin_truncf(x); }
SNNFAST_HD double truncated(double x) { return __builtin_trunc(x); }
SNNFAST_HD float nearest_even(float x) { return __builtin_rintf(x); }
SNNFAST_HD double nearest_even(double x) { return __builtin_rint(x); }

template <class C>
SNNFAST_HD C sign_of(C x) {
  return x > C(0) ? C(1) : x < C(0) ? C(-1) : C(0);
}
// NaN if either is NaN.
template <class C>
SNNFAST_HD C larger(C a, C b) {
  return a >= b || a != a ? a : b;
}
template <class C>
SNNFAST_HD C smaller(C a, C b) {
  return a <= b || a != a ? a : b;
}

// x = mantissa_of(x) 2^exponent_of(x) with a mantissa in [sqrt(1/2), sqrt(2)), for positive normal numbers. The
// constants are the bits of sqrt(1/2): the difference has the exponent in its high bits.
SNNFAST_HD float mantissa_of(float x) {
  const uint32_t bits = bit_cast<uint32_t>(x);
  return bit_cast<float>(bits - ((bits - 0x3f3504f3u) & 0xff800000u));
}
SNNFAST_HD double mantissa_of(double x) {
  const uint64_t bits = bit_cast<uint64_t>(x);
  return bit_cast<double>(bits - ((bits - 0x3fe6a09e667f3bcdu) & 0xfff0000000000000u));
}
SNNFAST_HD float exponent_of(float x) {
  return static_cast<float>(static_cast<int32_t>(bit_cast<uint32_t>(x) - 0x3f3504f3u) >> 23);
}
SNNFAST_HD double exponent_of(double x) {
  // Without a conversion of 64-bit integers, which AVX2 lacks: 1024 + the exponent becomes the low bits of 2^52.
  const uint64_t bits = (bit_cast<uint64_t>(x) - 0x3fe6a09e667f3bcdu + (uint64_t(1024) << 52)) >> 52;
  return bit_cast<double>(bits | 0x4330000000000000u) - (4503599627370496. + 1024.);
}

}  // namespace
}  // namespace snnfast
