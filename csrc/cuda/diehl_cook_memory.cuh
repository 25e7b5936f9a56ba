// Memory of the network of Diehl and Cook on CUDA.
#pragma once
#include "core/diehl_cook.h"
#include "cuda/block_weights.cuh"
#include "cuda/presentations.cuh"
#include "cuda/teams.cuh"

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
  TallyWord* words;
  Candidate<C>* candidates;  // notes of the tally: [places, blocks]
  // Of a block, its neurons contiguous. margin: membrane potential minus threshold; history: spikes of the last D
  // steps.
  C *v, *margin, *theta, *trace_post, *trace_post2;  // [neurons]
  int32_t* refractory;                               // [neurons]
  bool *open, *plastic, *history;                    // [neurons], [neurons], [D, neurons]
  C* w;                                              // of BlockWeights
  // Traces of an input after step `date`.
  C *trace_pre, *trace_pre2;                    // [I]
  int64_t *date, *last_spike;                   // [I]
  int32_t *found, *input_lists, *input_counts;  // neurons above threshold: [neurons]; of BlockInputs

  SNNFAST_HD DiehlCookMemory(const DiehlCook& a, const Teams& plan, Arena& team, Arena& block) {
    const int64_t neurons = plan.neurons_per_block(a.N), I = a.x.I, traced = a.learns || a.state.v ? 1 : 0,
                  rows = BlockInputs::rows(a.x, plan.threads);
    words = plan.take_tally<TallyWord>(team, block, plan.tally_words(a.lag()));
    candidates = plan.take_tally<Candidate<C>>(team, block, tally_places(a.lag()) * plan.blocks);
    v = block.take<C>(neurons);
    margin = block.take<C>(neurons);
    theta = block.take<C>(neurons);
    trace_post = block.take<C>(neurons * traced);
    trace_post2 = block.take<C>(neurons * traced);
    refractory = block.take<int32_t>(neurons);
    open = block.take<bool>(neurons);
    plastic = block.take<bool>(neurons);
    history = block.take<bool>(neurons * a.inhibition_delay);
    trace_pre = block.take<C>(I * traced);
    trace_pre2 = block.take<C>(I * traced);
    date = block.take<int64_t>(I * traced);
    last_spike = block.take<int64_t>(I * traced);
    found = block.take<int32_t>(neurons);
    input_lists = block.take<int32_t>(rows * I);
    input_counts = block.take<int32_t>(rows);
    w = block.take<C>(plan.weights ? BlockWeights<C>::count(neurons, I) : 0);
  }
};

}  // namespace
}  // namespace snnfast
