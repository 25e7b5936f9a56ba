// Memory of the network of Diehl and Cook on the CPU: shared by all presentations, and of each thread.
#pragma once
#include "core/arena.h"
#include "core/diehl_cook.h"

namespace snnfast::cpu {
namespace {

constexpr int64_t kGroup = 64;  // neurons that are evaluated together

// Length of arrays of bounds: a few groups take little memory, many are padded to wide registers.
inline int64_t padded(int64_t groups) { return groups <= 4 ? 4 : groups <= 8 ? 8 : (groups + 15) / 16 * 16; }

// The weights in groups of neurons, [inputs, kGroup] each.
template <class C>
struct DiehlCookWeights {
  int64_t groups, padded_groups;
  C** weights;      // [groups] first weight of each group
  int64_t* stride;  // [groups] from one input to the next
  C* copies;
  bool* changed;  // [groups] since the call began
  C* bound;       // [I, padded_groups] upper bound on the magnitudes of the group's weights
  C* largest;     // [1] upper bound on the magnitudes of all weights
  bool lazy;

  DiehlCookWeights(const DiehlCook& a, Arena& memory) {
    groups = (a.N + kGroup - 1) / kGroup;
    padded_groups = padded(groups);
    // Bounds do not pay off for few presentations, and hold only for constant thresholds.
    lazy = a.x.P >= 4 && a.x.P * a.x.T >= 64 && a.theta_decay == 1;
    weights = memory.take<C*>(groups);
    stride = memory.take<int64_t>(groups);
    changed = memory.take<bool>(groups);
    largest = memory.take<C>(1);
    bound = memory.take<C>(lazy ? a.x.I * padded_groups : 0);
    copies = memory.take<C>(groups * a.x.I * kGroup);
  }
};

// State of one presentation. Neurons are in groups until their first spike (or start active, if they have more state);
// from then on each is an `active` neuron with its weights in a contiguous column.
template <class C>
struct DiehlCookThread {
  C *v, *theta, *hidden;              // [groups, kGroup]; hidden: 0, or infinity for lanes of active neurons or of none
  C *margin_bound, *least_threshold;  // [padded_groups]
  int64_t* done;                      // [groups] last evaluated step
  C *before, *after;                  // [T] inhibition that arrives with the input of a step, or at its end
  C *trace_pre, *trace_pre2, *scratch;  // [I]
  C* powers;                            // [2 T] powers of the decay of a trace, then zeros
  int32_t* last;                        // [I] step of the last spike, or -T
  int32_t* first_inputs;                // [I] inputs that fired in the step before the first
  int32_t* ring;                        // [D] spike counts of all neurons in the last D steps
  int64_t* slot;                        // [N] index among the active neurons, or -1
  int64_t* winners;                     // [N]
  struct Active {
    int64_t id;
    C v, theta, trace_post, trace_post2, margin, arriving;  // arriving: sum of weights, if summed
    int32_t refractory;
    bool open, spikes, plastic, summed;
  }* active;            // [N]
  C* columns;           // [N, I] weights of the active neurons
  bool* recent_spikes;  // [N, D] spikes of the active neurons in the last D steps
  int64_t count;        // number of active neurons

  DiehlCookThread(const DiehlCook& a, Arena& memory) {
    const int64_t groups = (a.N + kGroup - 1) / kGroup, padded_groups = padded(groups), delay = a.inhibition_delay;
    v = memory.take<C>(groups * kGroup);
    theta = memory.take<C>(groups * kGroup);
    hidden = memory.take<C>(groups * kGroup);
    margin_bound = memory.take<C>(padded_groups);
    least_threshold = memory.take<C>(padded_groups);
    done = memory.take<int64_t>(groups);
    before = memory.take<C>(a.x.T);
    after = memory.take<C>(a.x.T);
    trace_pre = memory.take<C>(a.x.I);
    trace_pre2 = memory.take<C>(a.x.I);
    scratch = memory.take<C>(a.x.I);
    powers = memory.take<C>(2 * a.x.T);
    last = memory.take<int32_t>(a.x.I);
    first_inputs = memory.take<int32_t>(a.x.I);
    ring = memory.take<int32_t>(delay);
    slot = memory.take<int64_t>(a.N);
    winners = memory.take<int64_t>(a.N);
    active = memory.take<Active>(a.N);
    columns = memory.take<C>(a.N * a.x.I);
    recent_spikes = memory.take<bool>(a.N * delay);
    count = 0;
  }
};

}  // namespace
}  // namespace snnfast::cpu
