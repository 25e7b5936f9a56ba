// Memory of the network of Diehl and Cook on CUDA.
#pragma once
#include "core/diehl_cook.h"
#include "cuda/block_weights.cuh"
#include "cuda/network_launch.cuh"
#include "cuda/presentations.cuh"

namespace snnfast {
namespace {

// Candidate for the single winner; neuron is -1 if there is none.
template <class C>
struct Candidate {
  C margin;
  int64_t neuron;
};

template <class C>
struct DiehlCookMemory {
  int64_t bytes;
  // margin: membrane potential minus threshold; history, totals: spikes of the last D steps, and their numbers.
  C *v, *margin, *theta, *trace_post, *trace_post2;  // [N]
  int32_t* refractory;                               // [N]
  bool *open, *plastic, *history;                    // [N], [N], [D, N]
  int32_t* totals;                                   // [D]
  C* w;                                              // of BlockWeights
  // Traces of an input after step `date`.
  C *trace_pre, *trace_pre2;                    // [I]
  int64_t *date, *last_spike;                   // [I]
  int32_t *found, *input_lists, *input_counts;  // neurons above threshold: [N]; of BlockInputs

  SNNFAST_HD DiehlCookMemory(const DiehlCook& a, const NetworkLaunch& plan, Arena block) {
    const int64_t N = a.N, I = a.x.I, traced = a.learns || a.state.v ? 1 : 0,
                  rows = BlockInputs::rows(a.x, plan.threads);
    v = block.take<C>(N);
    margin = block.take<C>(N);
    theta = block.take<C>(N);
    trace_post = block.take<C>(N * traced);
    trace_post2 = block.take<C>(N * traced);
    refractory = block.take<int32_t>(N);
    open = block.take<bool>(N);
    plastic = block.take<bool>(N);
    history = block.take<bool>(N * a.inhibition_delay);
    totals = block.take<int32_t>(a.inhibition_delay);
    trace_pre = block.take<C>(I * traced);
    trace_pre2 = block.take<C>(I * traced);
    date = block.take<int64_t>(I * traced);
    last_spike = block.take<int64_t>(I * traced);
    found = block.take<int32_t>(N);
    input_lists = block.take<int32_t>(rows * I);
    input_counts = block.take<int32_t>(rows);
    w = block.take<C>(plan.weights ? BlockWeights<C>::count(N, I) : 0);
    bytes = block.used();
  }
};

}  // namespace
}  // namespace snnfast
