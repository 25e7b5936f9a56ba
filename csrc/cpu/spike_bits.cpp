#include "core/spike_bits.h"

#include <cstring>

#include "cpu/lanes.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

// Bits of 64 elements, and in `others` a bit for each that is neither 0 nor 1. `magnitude` masks the sign.
template <class U>
inline uint64_t bits_of(const U* x, U magnitude, U one, uint64_t* others) {
  alignas(64) int8_t spikes[64], odd[64];
  for (int l = 0; l < 64; l++) {
    const bool some = (x[l] & magnitude) != 0;
    spikes[l] = some ? -1 : 0;
    odd[l] = some && x[l] != one ? -1 : 0;
  }
  *others = sign_bits(odd);
  return sign_bits(spikes);
}

template <class U>
void find(const SpikeBits& a, int64_t begin, int64_t end, U magnitude, U one, SpikesFound* found) {
  int64_t nonzeros = 0, others = 0;
  for (int64_t r = begin; r < end; r++) {
    const U* row = static_cast<const U*>(a.x) + r * a.inputs;
    for (int64_t w = 0; w < a.words; w++) {
      uint64_t odd;
      uint64_t& bits = a.bits[r * a.words + w];
      if (a.inputs - w * 64 >= 64) {
        bits = bits_of(row + w * 64, magnitude, one, &odd);
      } else {
        U last[64] = {};
        memcpy(last, row + w * 64, sizeof(U) * static_cast<size_t>(a.inputs - w * 64));
        bits = bits_of(last, magnitude, one, &odd);
      }
      nonzeros += __builtin_popcountll(bits);
      others += __builtin_popcountll(odd);
    }
  }
  found->nonzeros = nonzeros, found->others = others;
}

// U: integer of the size of an element; `one`: the bits of 1.
template <class U>
void expand(const SpikeBits& a, int64_t begin, int64_t end, U one, void* x) {
  for (int64_t r = begin; r < end; r++) {
    U* row = static_cast<U*>(x) + r * a.inputs;
    for (int64_t i = 0; i < a.inputs; i += 32) {
      const uint32_t bits = static_cast<uint32_t>(a.bits[r * a.words + i / 64] >> i % 64);
      U values[32];
      // arithmetic rather than a condition, for which GCC emits a branch per element
      for (int l = 0; l < 32; l++) values[l] = static_cast<U>(U{0} - static_cast<U>(bits >> l & 1)) & one;
      memcpy(row + i, values, sizeof(U) * static_cast<size_t>(min(a.inputs - i, 32)));
    }
  }
}

}  // namespace

// Bits of the rows [begin, end), and the numbers of nonzero and of other elements.
void spike_bits(const SpikeBits& a, int64_t begin, int64_t end, SpikesFound* found) {
  if (a.bytes) return find<uint8_t>(a, begin, end, 0xff, 1, found);
  switch (a.dtype) {
    case Dtype::f32: return find<uint32_t>(a, begin, end, 0x7fffffffu, 0x3f800000u, found);
    case Dtype::f64: return find<uint64_t>(a, begin, end, 0x7fffffffffffffffu, 0x3ff0000000000000u, found);
    case Dtype::bf16: return find<uint16_t>(a, begin, end, 0x7fff, 0x3f80, found);
    case Dtype::f16: return find<uint16_t>(a, begin, end, 0x7fff, 0x3c00, found);
  }
}

// Writes 0 and 1 to `x`, for the rows [begin, end).
void spike_values(const SpikeBits& a, int64_t begin, int64_t end, void* x) {
  switch (a.dtype) {
    case Dtype::f32: return expand<uint32_t>(a, begin, end, 0x3f800000u, x);
    case Dtype::f64: return expand<uint64_t>(a, begin, end, 0x3ff0000000000000u, x);
    case Dtype::bf16: return expand<uint16_t>(a, begin, end, 0x3f80, x);
    case Dtype::f16: return expand<uint16_t>(a, begin, end, 0x3c00, x);
  }
}

}  // namespace snnfast::cpu::SNNFAST_ISA
