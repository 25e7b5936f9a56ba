// Arguments of the kernels of stdp: weights, spike trains, states, and the memory for one chunk of steps.
#pragma once
#include "core/plasticity.h"

namespace snnfast {

// Spikes [T, B, N] of any dtype and strides (in elements): a value is a spike if any bit other than the sign is set.
struct StridedSpikes {
  const void* data;
  int64_t time_stride, batch_stride, neuron_stride;
  int32_t width;  // bytes of a value
  bool floating;  // the top bit is a sign
};

struct Stdp {
  Plasticity<double> rule;
  double decay_eligibility, scale, norm;
  bool each_step, modulated, is_double;
  int64_t T, B, N_pre, N_post, w_stride;
  void* w;  // [N_post, N_pre], rows w_stride apart
  StridedSpikes pre, post;
  void *trace_pre, *trace_pre2, *trace_post, *trace_post2;  // [B, N]
  void* eligibility;                                        // [B, N_post, N_pre], where modulated
  const void* reward;                                       // [T, B], where modulated

  // Steps [t0, t0 + steps), whose traces are stored; last: no chunk follows.
  int64_t t0, steps;
  bool last;
  void *x_pre, *x_pre2;    // [steps, B, N_pre]: after the spike; before it (triplet only)
  void *x_post, *x_post2;  // [steps, B, padded_post]
  void *grown, *lost;      // sums over chunks, unless each_step

  // CPU: spikes as lists
  int64_t padded_post;           // N_post rounded up to a multiple of the rows of a block
  int32_t *fired, *n_fired;      // [steps, B, N_pre], [steps, B]: presynaptic neurons, in order
  int32_t *touched, *n_touched;  // [steps, N_pre], [steps]: neurons that fire in any sample
  uint16_t* fired_post;          // [steps, blocks, B]: one bit per row of a block

  // CUDA: spikes as flags
  uint8_t *spikes_pre, *spikes_post;  // [steps, B, N]
};

}  // namespace snnfast
