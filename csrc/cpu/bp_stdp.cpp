#include "core/bp_stdp.h"

#include "cpu/bp_stdp.h"

namespace snnfast::cpu::SNNFAST_ISA {
namespace {

template <class C, class Bits>
void windows(const BpStdp& a, int64_t t0, int64_t t1, int64_t begin, int64_t end, Bits significant) {
  const Bits* pre = static_cast<const Bits*>(a.pre);
  for (int64_t b = begin; b < end; b++) {
    int32_t* counts = static_cast<int32_t*>(a.counts) + b * a.I;
    for (int64_t t = t0; t < t1; t++) {
      const Bits* enters = pre + (t * a.B + b) * a.I;
      C* window = static_cast<C*>(a.windows) + ((t - t0) * a.B + b) * a.I;
      SNNFAST_SIMD
      for (int64_t i = 0; i < a.I; i++) counts[i] += (enters[i] & significant) != 0;
      if (t > a.epsilon) {
        const Bits* leaves = enters - (a.epsilon + 1) * a.B * a.I;
        SNNFAST_SIMD
        for (int64_t i = 0; i < a.I; i++) counts[i] -= (leaves[i] & significant) != 0;
      }
      SNNFAST_SIMD
      for (int64_t i = 0; i < a.I; i++) window[i] = static_cast<C>(counts[i]);
      if (a.passed)
        pass_back(static_cast<const C*>(a.w), a.I, a.O, static_cast<const C*>(a.error) + (t * a.B + b) * a.O, counts,
                  static_cast<C*>(a.passed) + (t * a.B + b) * a.I);
    }
  }
}

template <class C>
void windows_of(const BpStdp& a, int64_t t0, int64_t t1, int64_t begin, int64_t end) {
  switch (a.width) {
    case 1: return windows<C, uint8_t>(a, t0, t1, begin, end, 0xff);
    case 4: return windows<C, uint32_t>(a, t0, t1, begin, end, 0x7fffffffu);  // -0 is no spike
    case 8: return windows<C, uint64_t>(a, t0, t1, begin, end, 0x7fffffffffffffffu);
  }
}

template <class C>
void weights_of(const BpStdp& a, int64_t t0, int64_t t1, int64_t begin, int64_t end) {
  add_changes(static_cast<C*>(a.w), a.I, static_cast<const C*>(a.error) + t0 * a.B * a.O, a.O, static_cast<C>(a.scale),
              static_cast<const C*>(a.windows), a.I, (t1 - t0) * a.B, begin, end);
}

}  // namespace

// Windows and errors passed back of the samples [begin, end) in the steps [t0, t1).
void bp_stdp_windows(const BpStdp& a, int64_t t0, int64_t t1, int64_t begin, int64_t end) {
  a.is_double ? windows_of<double>(a, t0, t1, begin, end) : windows_of<float>(a, t0, t1, begin, end);
}

// Changes of the weights of the neurons [begin, end) in the steps [t0, t1).
void bp_stdp_weights(const BpStdp& a, int64_t t0, int64_t t1, int64_t begin, int64_t end) {
  a.is_double ? weights_of<double>(a, t0, t1, begin, end) : weights_of<float>(a, t0, t1, begin, end);
}

}  // namespace snnfast::cpu::SNNFAST_ISA
