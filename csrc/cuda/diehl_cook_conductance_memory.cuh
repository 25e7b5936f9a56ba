// Memory of the network with conductances on CUDA.
#pragma once
#include <type_traits>

#include "core/diehl_cook_conductance.h"
#include "cuda/block_weights.cuh"
#include "cuda/presentations.cuh"
#include "cuda/teams.cuh"

namespace snnfast {
namespace {

constexpr int64_t kTogether = 8;  // inputs under way whose delays a thread has in flight

template <class C>
struct ConductanceMemory {
  TallyWord* words;
  // Of a block, its own neurons side by side, [own] each.
  C *v, *g_exc, *g_inh, *v_inh, *g_exc_inh, *trace_post, *trace_post2;
  double* theta;
  int32_t *refractory, *refractory_inh;
  bool *spiked, *spiked_inh;
  int32_t* found;  // that spike in this step
  C* w;            // of BlockWeights
  // Rings of the last steps, step s in row s mod history: what a delayed synapse sees.
  C *trace_pre, *trace_pre2;            // [history, I]
  bool* fired;                          // the same
  int32_t* under_way;                   // inputs that fired in the last steps, used in turn: [room]
  uint8_t* sent;                        // the steps they did so, mod 256
  int32_t* sent_counts;                 // how many in each of them: [history]
  int32_t *input_lists, *input_counts;  // of BlockInputs

  // For inputs under way: for all, in whole groups.
  static SNNFAST_HD int64_t room(const DiehlCookConductance& a) {
    return (a.history() * a.x.I + kTogether - 1) / kTogether * kTogether;
  }

  ConductanceMemory() = default;
  SNNFAST_HD ConductanceMemory(const DiehlCookConductance& a, const Teams& plan, Arena& team, Arena& block) {
    const int64_t I = a.x.I, own = plan.own(a.N), rows = BlockInputs::rows(a.x, plan.threads),
                  window = a.learns || a.state.v ? a.history() * I : 0;
    const auto take = [&](auto*& piece, int64_t count) {
      piece = block.take<std::remove_reference_t<decltype(*piece)>>(count);
    };
    words = plan.take_told<TallyWord>(team, block, plan.tally_words(1));
    take(v, own), take(g_exc, own), take(g_inh, own), take(v_inh, own), take(g_exc_inh, own), take(trace_post, own),
        take(trace_post2, own);
    take(theta, own), take(refractory, own), take(refractory_inh, own), take(spiked, own), take(spiked_inh, own),
        take(found, own);
    take(trace_pre, window), take(trace_pre2, window), take(fired, window);
    take(under_way, room(a)), take(sent, room(a)), take(sent_counts, a.history());
    take(input_lists, rows * I), take(input_counts, rows);
    take(w, plan.weights ? BlockWeights<C>::count(own, I) : 0);
  }
};

}  // namespace
}  // namespace snnfast
