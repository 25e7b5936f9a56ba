// bfloat16 and float16 as bits, converted to and from float with rounding to nearest even, as PyTorch does.
// Branch-free, so that a loop over it vectorises on every instruction set.
#pragma once
#include "bit_cast.h"

namespace snnfast {
namespace {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

template <class C, class T>
SNNFAST_HD C load_as(T value) {
  return static_cast<C>(value);
}
template <class C>
SNNFAST_HD C load_as(BFloat16 value) {
  return bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}
template <class C>
SNNFAST_HD C load_as(Half value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(value.bits & 0x7fffu) << 13;
  const float scaled = bit_cast<float>(magnitude) * bit_cast<float>(0x77800000u);  // 2^112: also makes subnormals right
  const uint32_t infinite = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;           // inf and NaN keep their exponent
  return bit_cast<float>(bit_cast<uint32_t>(scaled) | infinite | sign);
}

template <class T>
struct Store {
  template <class C>
  static SNNFAST_HD T from(C value) {
    return static_cast<T>(value);
  }
};
template <>
struct Store<BFloat16> {
  static SNNFAST_HD BFloat16 from(float value) {
    const uint32_t u = bit_cast<uint32_t>(value);
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return {static_cast<uint16_t>(value == value ? rounded : 0x7fc0u)};
  }
};
template <>
struct Store<Half> {
  static SNNFAST_HD Half from(float value) {
    const uint32_t u = bit_cast<uint32_t>(value);
    const uint32_t sign = (u >> 16) & 0x8000u;
    const uint32_t m = u & 0x7fffffffu;
    const uint32_t normal = (m + 0xfffu + ((m >> 13) & 1u) - 0x38000000u) >> 13;
    // Below 2^-14: adding 0.5 lets the float adder round to half's subnormal grid.
    const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(m) + 0.5f) - 0x3f000000u;
    uint32_t out = m < 0x38800000u ? subnormal : normal;
    out = m >= 0x477ff000u ? 0x7c00u : out;  // rounds to infinity
    out = m > 0x7f800000u ? 0x7e00u : out;   // NaN
    return {static_cast<uint16_t>(out | sign)};
  }
};

}  // namespace
}  // namespace snnfast
