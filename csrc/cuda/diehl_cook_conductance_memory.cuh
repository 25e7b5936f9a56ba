// Memory of the network with conductances on CUDA.
#pragma once
#include <type_traits>

#include "core/diehl_cook_conductance.h"
#include "cuda/block_weights.cuh"
#include "cuda/presentations.cuh"
#include "cuda/teams.cuh"

namespace snnfast {
namespace {

constexpr int64_t kTogether = 8;  // inputs in flight whose delays a thread loads together

template <class C>
struct ConductanceMemory {
  TallyWord* words;
  // Of a block, its neurons contiguous: [neurons].
  C *v, *g_exc, *g_inh, *v_inh, *g_exc_inh, *trace_post, *trace_post2;
  double* theta;
  int32_t *refractory, *refractory_inh;
  bool *spiked, *spiked_inh;
  int32_t* found;  // neurons that spike in this step
  C* w;            // of BlockWeights
  // Rings of the last steps, step s in row s mod history, for delayed synapses.
  C *trace_pre, *trace_pre2;            // [history, I]
  bool* fired;                          // [history, I]
  int32_t* under_way;                   // ring of the inputs that fired in the last steps: [room]
  uint8_t* sent;                        // the steps in which they fired, mod 256
  int32_t* sent_counts;                 // number of inputs of each step: [history]
  int32_t *input_lists, *input_counts;  // of BlockInputs

  // Capacity for inputs in flight: all of them, in whole groups.
  static SNNFAST_HD int64_t room(const DiehlCookConductance& a) {
    return (a.history() * a.x.I + kTogether - 1) / kTogether * kTogether;
  }

  ConductanceMemory() = default;
  SNNFAST_HD ConductanceMemory(const DiehlCookConductance& a, const Teams& plan, Arena& team, Arena& block) {
    const int64_t I = a.x.I, neurons = plan.neurons_per_block(a.N), rows = BlockInputs::rows(a.x, plan.threads),
                  window = a.learns || a.state.v ? a.history() * I : 0;
    const auto take = [&](auto*& piece, int64_t count) {
      piece = block.take<std::remove_reference_t<decltype(*piece)>>(count);
    };
    words = plan.take_tally<TallyWord>(team, block, plan.tally_words(1));
    take(v, neurons), take(g_exc, neurons), take(g_inh, neurons), take(v_inh, neurons), take(g_exc_inh, neurons),
        take(trace_post, neurons), take(trace_post2, neurons);
    take(theta, neurons), take(refractory, neurons), take(refractory_inh, neurons), take(spiked, neurons),
        take(spiked_inh, neurons), take(found, neurons);
    take(trace_pre, window), take(trace_pre2, window), take(fired, window);
    take(under_way, room(a)), take(sent, room(a)), take(sent_counts, a.history());
    take(input_lists, rows * I), take(input_counts, rows);
    take(w, plan.weights ? BlockWeights<C>::count(neurons, I) : 0);
  }
};

}  // namespace
}  // namespace snnfast
