// base^exponent for base >= 0 and exponent >= 0 in float without a branch or a call, so that loops over it vectorise
// and every device rounds alike: 2^(exponent log2(base)), log2 by the series of atanh on [sqrt(1/2), sqrt(2)). The
// relative error is below 1.2e-7 (1 + exponent |log2(base)|). 0^0 is 1; below 2^-126 a base counts as 0.
#pragma once
#include "bit_cast.h"

namespace snnfast {
namespace {

SNNFAST_HD float pow_nonnegative(float base, float exponent) {
  const uint32_t bits = bit_cast<uint32_t>(base);
  const int32_t e = static_cast<int32_t>(bits - 0x3f3504f3u) >> 23;  // 0x3f3504f3: sqrt(1/2)
  const float m = bit_cast<float>(bits - (static_cast<uint32_t>(e) << 23));
  const float s = (m - 1.f) / (m + 1.f), s2 = s * s;
  float log2_m = 0.320598898f;
  log2_m = log2_m * s2 + 0.412198583f;
  log2_m = log2_m * s2 + 0.577078016f;
  log2_m = log2_m * s2 + 0.961796694f;
  log2_m = log2_m * s2 + 2.88539008f;
  float z = exponent * static_cast<float>(e) + exponent * (log2_m * s);
  z = z < -126.f ? -126.f : z > 127.f ? 127.f : z;
  const float shifted = z + 12582912.f;  // 1.5 * 2^23: the low bits now hold round(z)
  const float r = (z - (shifted - 12582912.f)) * 0.693147181f;
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  const float power = p * bit_cast<float>((bit_cast<uint32_t>(shifted) + 127u) << 23);
  return base < 1.17549435e-38f ? (exponent == 0.f ? 1.f : 0.f) : power;
}

}  // namespace
}  // namespace snnfast
