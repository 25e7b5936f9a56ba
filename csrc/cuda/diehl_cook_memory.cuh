// Memory of the network of Diehl and Cook on CUDA.
#pragma once
#include "core/arena.h"
#include "core/diehl_cook.h"
#include "cuda/grid_tally.cuh"
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
  GridTally::Word* words;
  // Of a team, of all networks' teams. margin: membrane minus threshold; history: spikes of the last D steps.
  C *v, *margin, *trace_post, *trace_post2;  // [N]
  int32_t* refractory;                       // [N]
  bool *open, *plastic, *history;            // [N], [N], [D, N]
  Candidate<C>* candidates;                  // [words, blocks]
  // Of a block. The traces of an input are those after step `date`.
  C *trace_pre, *trace_pre2;                    // [I]
  int64_t *date, *last_spike;                   // [I]
  int32_t *found, *input_lists, *input_counts;  // neurons [N / blocks]; of BlockInputs

  // All words are the first of the memory, zeros before the launch.
  static SNNFAST_HD int64_t words_bytes(const DiehlCook& a, const Teams& plan) {
    return plan.all_teams() * GridTally::words(a.lag()) * static_cast<int64_t>(sizeof(GridTally::Word));
  }

  SNNFAST_HD DiehlCookMemory(const DiehlCook& a, const Teams& plan, Arena& memory, int64_t team, int64_t block) {
    const int64_t N = a.N, I = a.x.I, teams = plan.all_teams(), at = team * plan.blocks + block, blocks = teams * plan.blocks;
    const int64_t traced = a.learns || a.state.v ? 1 : 0, rows = BlockInputs::rows(a.x, plan.threads);
    const int64_t each = (N + plan.blocks * plan.threads - 1) / (plan.blocks * plan.threads) * plan.threads;
    words = memory.take<GridTally::Word>(teams * GridTally::words(a.lag())) + team * GridTally::words(a.lag());
    v = memory.take<C>(teams * N) + team * N;
    margin = memory.take<C>(teams * N) + team * N;
    trace_post = memory.take<C>(teams * N * traced) + team * N * traced;
    trace_post2 = memory.take<C>(teams * N * traced) + team * N * traced;
    refractory = memory.take<int32_t>(teams * N) + team * N;
    open = memory.take<bool>(teams * N) + team * N;
    plastic = memory.take<bool>(teams * N) + team * N;
    history = memory.take<bool>(teams * N * a.inhibition_delay) + team * N * a.inhibition_delay;
    candidates = memory.take<Candidate<C>>(teams * GridTally::words(a.lag()) * plan.blocks) + team * GridTally::words(a.lag()) * plan.blocks;
    trace_pre = memory.take<C>(blocks * I * traced) + at * I * traced;
    trace_pre2 = memory.take<C>(blocks * I * traced) + at * I * traced;
    date = memory.take<int64_t>(blocks * I * traced) + at * I * traced;
    last_spike = memory.take<int64_t>(blocks * I * traced) + at * I * traced;
    found = memory.take<int32_t>(blocks * each) + at * each;
    input_lists = memory.take<int32_t>(blocks * rows * I) + at * rows * I;
    input_counts = memory.take<int32_t>(blocks * rows) + at * rows;
  }
};

}  // namespace
}  // namespace snnfast
