// Integrate-and-fire neurons of which only the number of spikes is kept: one step of one neuron.
#pragma once
#include "host_device.h"
#include "neuron.h"

namespace snnfast {
namespace {

// The states of the scan: membrane and number of spikes. The sums are lif's with decay 1, in its order, so that both fire alike.
template <class C, Reset R>
SNNFAST_HD void spike_count_step(C x, C threshold, C v_reset, C v_rest, C* v, C* count) {
  const C h = v_rest + (*v - v_rest) + x;
  const bool fired = h >= threshold;
  *v = fired ? (R == Reset::hard ? v_reset : h - threshold) : h;
  *count += fired ? C(1) : C(0);
}

}  // namespace
}  // namespace snnfast
