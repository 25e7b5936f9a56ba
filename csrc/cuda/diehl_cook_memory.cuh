// Memory of the network of Diehl and Cook on CUDA.
#pragma once
#include "core/diehl_cook.h"
#include "cuda/block_weights.cuh"
#include "cuda/presentations.cuh"
#include "cuda/teams.cuh"

namespace snnfast {
namespace {

// A neuron as a candidate for the one winner; -1 where there is none.
template <class C>
struct Candidate {
  C margin;
  int64_t neuron;
};

template <class C>
struct DiehlCookMemory {
  TallyWord* words;
  Candidate<C>* candidates;  // notes of the tally: [places, blocks]
  // Of a block, its own neurons side by side. margin: membrane minus threshold; history: spikes of the last D steps.
  C *v, *margin, *theta, *trace_post, *trace_post2;  // [own]
  int32_t* refractory;                               // [own]
  bool *open, *plastic, *history;                    // [own], [own], [D, own]
  C* w;                                              // of BlockWeights
  // The traces of an input are those after step `date`.
  C *trace_pre, *trace_pre2;                    // [I]
  int64_t *date, *last_spike;                   // [I]
  int32_t *found, *input_lists, *input_counts;  // neurons that are above threshold: [own]; of BlockInputs

  SNNFAST_HD DiehlCookMemory(const DiehlCook& a, const Teams& plan, Arena& team, Arena& block) {
    const int64_t own = plan.own(a.N), I = a.x.I, traced = a.learns || a.state.v ? 1 : 0,
                  rows = BlockInputs::rows(a.x, plan.threads);
    words = plan.take_told<TallyWord>(team, block, plan.tally_words(a.lag()));
    candidates = plan.take_told<Candidate<C>>(team, block, tally_places(a.lag()) * plan.blocks);
    v = block.take<C>(own);
    margin = block.take<C>(own);
    theta = block.take<C>(own);
    trace_post = block.take<C>(own * traced);
    trace_post2 = block.take<C>(own * traced);
    refractory = block.take<int32_t>(own);
    open = block.take<bool>(own);
    plastic = block.take<bool>(own);
    history = block.take<bool>(own * a.inhibition_delay);
    trace_pre = block.take<C>(I * traced);
    trace_pre2 = block.take<C>(I * traced);
    date = block.take<int64_t>(I * traced);
    last_spike = block.take<int64_t>(I * traced);
    found = block.take<int32_t>(own);
    input_lists = block.take<int32_t>(rows * I);
    input_counts = block.take<int32_t>(rows);
    w = block.take<C>(plan.weights ? BlockWeights<C>::count(own, I) : 0);
  }
};

}  // namespace
}  // namespace snnfast
