// Stimuli presented one after the other, in one of three forms; once encoded, as lists of the inputs that fire.
#pragma once
#include <cstdint>

#include "core/host_device.h"

namespace snnfast {

enum class PresentationForm : int32_t { dense, events, rates };

struct Presentations {
  int64_t P, T, I;
  PresentationForm form;
  // dense
  const void* spikes;                        // [P, T, I]; a spike is any nonzero value
  int64_t presentation_stride, step_stride;  // in elements, like all strides
  int32_t width;                             // bytes of a spike
  // events
  const int32_t* inputs;   // of all presentations
  const int64_t* offsets;  // [P, T + 1]
  // rates
  const float* hz;       // [P, I]
  const int64_t* seeds;  // [P]
  float per_hz;          // probability of a spike in a step at 1 Hz
  // From one network to the next: of spikes, offsets or rates, and of seeds; 0: shared.
  int64_t network_stride, seeds_stride;

  // Presentations of network k.
  SNNFAST_HD Presentations network(int64_t k) const {
    Presentations x = *this;
    switch (form) {
      case PresentationForm::dense: x.spikes = static_cast<const char*>(spikes) + k * network_stride * width; break;
      case PresentationForm::events: x.offsets += k * network_stride; break;
      case PresentationForm::rates: x.hz += k * network_stride, x.seeds += k * seeds_stride;
    }
    return x;
  }
};

// The spikes of one presentation: in step t the inputs inputs[offsets[t]] ... inputs[offsets[t + 1] - 1] fire,
// ascending.
struct SpikeTrain {
  int32_t* inputs;
  int32_t* offsets;
};

}  // namespace snnfast
