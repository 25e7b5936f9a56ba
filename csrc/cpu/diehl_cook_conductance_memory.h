// Memory of the network with conductances on the CPU: shared by all presentations, and of each thread.
#pragma once
#include "core/arena.h"
#include "core/diehl_cook_conductance.h"

namespace snnfast::cpu {
namespace {

// Weights of an input are contiguous, and its targets sorted by delay: an arrival touches those of one delay.
template <class C>
struct ConductanceWeights {
  bool copied;
  C* w;  // [I, stride]
  int64_t stride;
  int32_t* target;  // [I, N] neurons by delay
  int32_t* first;   // [I, longest_delay + 2] start of each delay in `target`

  ConductanceWeights(const DiehlCookConductance& a, Arena& memory) {
    copied = a.w_stride_neuron != 1;
    stride = copied ? a.N : a.w_stride_input;
    w = copied ? memory.take<C>(a.x.I * a.N) : static_cast<C*>(a.w);
    target = memory.take<int32_t>(a.delays ? a.x.I * a.N : 0);
    first = memory.take<int32_t>(a.delays ? a.x.I * (a.longest_delay + 2) : 0);
  }
};

// State of one presentation. Arrays of neurons are padded to whole vectors with neurons that never fire.
template <class C>
struct ConductanceThread {
  int64_t padded;
  C *v, *g_exc, *g_inh, *threshold, *trace_post, *trace_post2, *v_inh, *g_exc_inh;  // [padded]
  int32_t *refractory, *refractory_inh, *spiked, *spiked_inh;                       // [padded]
  double *theta, *sum;                                                              // [padded]
  int32_t* spikes;                     // [N] neurons that spike in this step
  C *trace_pre, *trace_pre2;           // [history, I] step s is in row s mod history
  uint8_t* fired;                      // [history, I]
  int32_t *carried, *carried_offsets;  // inputs of the steps before the first: [longest_delay * I], [longest_delay + 1]

  ConductanceThread(const DiehlCookConductance& a, Arena& memory) {
    padded = (a.N + 15) / 16 * 16;
    v = memory.take<C>(padded);
    g_exc = memory.take<C>(padded);
    g_inh = memory.take<C>(padded);
    threshold = memory.take<C>(padded);
    trace_post = memory.take<C>(padded);
    trace_post2 = memory.take<C>(padded);
    v_inh = memory.take<C>(padded);
    g_exc_inh = memory.take<C>(padded);
    refractory = memory.take<int32_t>(padded);
    refractory_inh = memory.take<int32_t>(padded);
    spiked = memory.take<int32_t>(padded);
    spiked_inh = memory.take<int32_t>(padded);
    theta = memory.take<double>(padded);
    sum = memory.take<double>(padded);
    spikes = memory.take<int32_t>(a.N);
    const int64_t window = a.learns || a.state.v ? a.history() * a.x.I : 0;
    trace_pre = memory.take<C>(window);
    trace_pre2 = memory.take<C>(window);
    fired = memory.take<uint8_t>(window);
    carried = memory.take<int32_t>(a.longest_delay * a.x.I);
    carried_offsets = memory.take<int32_t>(a.longest_delay + 1);
  }
};

}  // namespace
}  // namespace snnfast::cpu
