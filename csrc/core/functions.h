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

// x = mantissa_of(x) 2^exponent_of(x) with a mantissa in [0.5, 1), for positive normal numbers.
SNNFAST_HD float mantissa_of(float x) { return bit_cast<float>((bit_cast<uint32_t>(x) & 0x807fffffu) | 0x3f000000u); }
SNNFAST_HD double mantissa_of(double x) {
  return bit_cast<double>((bit_cast<uint64_t>(x) & 0x800fffffffffffffu) | 0x3fe0000000000000u);
}
SNNFAST_HD float exponent_of(float x) {
  return static_cast<float>(static_cast<int32_t>(bit_cast<uint32_t>(x) >> 23 & 0xffu) - 126);
}
SNNFAST_HD double exponent_of(double x) {
  // Without a conversion of 64-bit integers, which AVX2 lacks: the exponent becomes the low bits of 2^52.
  return bit_cast<double>((bit_cast<uint64_t>(x) >> 52 & 0x7ffu) | 0x4330000000000000u) - (4503599627370496. + 1022.);
}

}  // namespace
}  // namespace snnfast
