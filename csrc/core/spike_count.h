// Integrate-and-fire neurons of which only the spike count is returned: one step of one neuron.
#pragma once
#include "neuron.h"

namespace snnfast {

struct SpikeCount {
  enum { kV, kCount, kStates };
  static constexpr int kFirstInput = kStates;  // none besides x
  enum { kVThreshold, kParams };
  enum { kVReset, kSettings };  // also the initial membrane potential; 0 with a soft reset
};

namespace {

// The sums are those of lif with decay 1, in the same order, so that both fire alike.
template <class C, Reset R>
SNNFAST_HD void spike_count_step(C x, C threshold, C v_reset, C* v, C* count) {
  const C h = v_reset + (*v - v_reset) + x;
  const bool fired = h - threshold >= 0;  // as the reference, also where both are infinite
  *v = fired ? (R == Reset::hard ? v_reset : h - threshold) : h;
  *count += fired ? C(1) : C(0);
}

}  // namespace
}  // namespace snnfast
