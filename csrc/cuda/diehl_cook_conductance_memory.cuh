// Memory of the network with conductances on CUDA.
#pragma once
#include <type_traits>

#include "core/arena.h"
#include "core/diehl_cook_conductance.h"
#include "cuda/grid_tally.cuh"
#include "cuda/presentations.cuh"
#include "cuda/teams.cuh"

namespace snnfast {
namespace {

constexpr int64_t kTogether = 8;  // inputs under way whose delays a thread has in flight

template <class C>
struct ConductanceMemory {
  GridTally::Word* words;
  // Of a team, of all networks' teams, [N] each.
  C *v, *g_exc, *g_inh, *v_inh, *g_exc_inh, *trace_post, *trace_post2;
  int32_t *refractory, *refractory_inh;
  bool *spiked, *spiked_inh;
  // Of a block. Rings of the last steps, step s in row s mod history: what a delayed synapse sees.
  C *trace_pre, *trace_pre2;            // [history, I]
  bool* fired;                          // the same
  int32_t* found;                       // neurons of the block that spike in this step
  int32_t* under_way;                   // inputs that fired in the last steps, used in turn: [room]
  uint8_t* sent;                        // the steps they did so, mod 256
  int32_t* sent_counts;                 // how many in each of them: [history]
  int32_t *input_lists, *input_counts;  // of BlockInputs

  // For inputs under way: for all, in whole groups.
  static SNNFAST_HD int64_t room(const DiehlCookConductance& a) { return (a.history() * a.x.I + kTogether - 1) / kTogether * kTogether; }

  // All words are the first of the memory, zeros before the launch.
  static SNNFAST_HD int64_t words_bytes(const Teams& plan) { return plan.all_teams() * GridTally::words(1) * static_cast<int64_t>(sizeof(GridTally::Word)); }

  ConductanceMemory() = default;
  SNNFAST_HD ConductanceMemory(const DiehlCookConductance& a, const Teams& plan, Arena& memory, int64_t team, int64_t block) {
    const int64_t I = a.x.I, block_of_all = team * plan.blocks + block, blocks = plan.all_teams() * plan.blocks;
    const int64_t own = (a.N + plan.blocks * plan.threads - 1) / (plan.blocks * plan.threads) * plan.threads;
    const int64_t rows = BlockInputs::rows(a.x, plan.threads), window = a.learns || a.state.v ? a.history() * I : 0;
    words = memory.take<GridTally::Word>(plan.all_teams() * GridTally::words(1)) + team * GridTally::words(1);
    const auto of_team = [&](auto*& piece) { piece = memory.take<std::remove_reference_t<decltype(*piece)>>(plan.all_teams() * a.N) + team * a.N; };
    const auto of_block = [&](auto*& piece, int64_t count) {
      piece = memory.take<std::remove_reference_t<decltype(*piece)>>(blocks * count) + block_of_all * count;
    };
    of_team(v), of_team(g_exc), of_team(g_inh), of_team(v_inh), of_team(g_exc_inh), of_team(trace_post), of_team(trace_post2);
    of_team(refractory), of_team(refractory_inh), of_team(spiked), of_team(spiked_inh);
    of_block(trace_pre, window), of_block(trace_pre2, window), of_block(fired, window);
    of_block(found, own);
    of_block(under_way, room(a)), of_block(sent, room(a)), of_block(sent_counts, a.history());
    of_block(input_lists, rows * I), of_block(input_counts, rows);
  }
};

}  // namespace
}  // namespace snnfast
