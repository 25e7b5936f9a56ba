// Memory of a network that learns by BP-STDP on CUDA, and the choice of its blocks.
#pragma once
#include "core/arena.h"
#include "core/bp_stdp_network.h"
#include "cuda/teams.cuh"

namespace snnfast {
namespace {

constexpr int64_t kAlone = 512;          // up to this number of threads, a network is a single block
constexpr int64_t kSharedThreads = 256;  // of a block of several
constexpr int64_t kChanges = 64;         // changes of weights that are worth waiting for another thread

// Neurons of a layer, or the inputs, and the weights to them. Addresses are relative to the memory of the network, or
// of the part of it that a block has. A part has `per_part` neurons but all inputs; values of all N neurons are
// broadcast to all parts.
template <class C>
struct Neurons {
  int64_t N, per_part, words_per_part,
      words;        // words of one bit per neuron, of a part and of all: a part begins a new word
  uint8_t* drawn;   // [B, steps, N] inputs, if they are drawn; a part draws some of the steps
  uint32_t* fired;  // [B, T, words]
  int32_t* counts;  // [B, per_part] running spike counts of the window
  C* windows;       // [slots, N] the counts at steps and samples that change weights
  C* error;         // [slots, N]
  C* v;             // [B, per_part]
  C* packed;        // [I, per_part]
  C* back;          // [O, per_part] of parts: weights to the next layer, along which errors are passed back
};

// Lays out the memory from address 0; returns its size in bytes.
template <class C>
int64_t lay_out(const BpStdpNetwork& a, int64_t parts, Neurons<C> (&neurons)[kBpStdpLayers + 1]) {
  Arena arena(nullptr);
  const int64_t B = a.samples(), T = a.x.T, slots = a.learns ? a.span * B : 0;
  for (int64_t n = 0; n <= a.layers; n++) {
    Neurons<C>& x = neurons[n];
    const int64_t shares = n > 0 ? parts : 1;
    x.N = n == 0 ? a.layer[0].I : a.layer[n - 1].O;
    x.per_part = (x.N + shares - 1) / shares, x.words_per_part = (x.per_part + 31) / 32,
    x.words = x.words_per_part * shares;
    x.drawn =
        arena.take<uint8_t>(n == 0 && a.x.form == PresentationForm::rates ? B * ((T + parts - 1) / parts) * x.N : 0);
    x.fired = arena.take<uint32_t>(B * T * x.words);
    x.counts = arena.take<int32_t>(slots ? B * x.per_part : 0);
    x.windows = arena.take<C>(n < a.layers ? slots * x.N : 0);
    x.error = arena.take<C>(n > 0 ? slots * x.N : 0);
    x.v = arena.take<C>(n > 0 ? B * x.per_part : 0);
    x.packed = arena.take<C>(n > 0 && a.packs() ? a.layer[n - 1].I * x.per_part : 0);
    x.back = arena.take<C>(n > 0 && n < a.layers && a.learns && parts > 1 ? a.layer[n].O * x.per_part : 0);
  }
  return arena.used();
}

// Number of blocks that have a part of the network, with its weights, in shared memory.
SNNFAST_HD int64_t parts_of(const Teams& plan) { return plan.weights ? plan.blocks : 1; }

// Number of threads with work at the same time.
inline int64_t threads_wanted(const BpStdpNetwork& a) {
  int64_t wanted = 1;
  for (int64_t l = 0; l < a.layers; l++) {
    const int64_t I = a.layer[l].I, O = a.layer[l].O, B = a.samples(),
                  changes = a.learns ? a.span * B * I * O / kChanges : 0;
    const int64_t threads = max((O + 31) / 32 * 32 * B, changes);
    wanted = max(threads, wanted);
  }
  return wanted;
}

// Completes a plan of divide(). If the wanted threads fit in a block or a cluster, or in twice a cluster, whose barrier
// and memory are much nearer, memory is shared memory, if there is room (hold_weights). Otherwise, if they fit in a
// cluster, the blocks are one and use its barrier, if all networks run at the same time.
template <class C, class Resident>
void choose_blocks(const BpStdpNetwork& a, int64_t room, bool clusters, const Resident& resident, Teams& plan) {
  constexpr int64_t kMost = kLargestCluster * kAlone;
  const int64_t wanted = threads_wanted(a);
  const bool parts = clusters && a.packs() && wanted <= 2 * kMost;
  const auto measure = [&](Teams& p) {
    Neurons<C> neurons[kBpStdpLayers + 1];
    p.block_bytes = lay_out(a, parts_of(p), neurons);
  };
  const TeamSizes sizes{kAlone, kAlone, kSharedThreads};
  if (hold_weights(a.networks, min(wanted, kMost), room, parts, sizes, measure, resident, plan) || plan.alone()) return;
  Teams other = plan;
  other.threads = kAlone, other.networks = a.networks, other.cluster = true;
  for (other.blocks = 2; other.blocks * kAlone < wanted && other.blocks < kLargestCluster;) other.blocks *= 2;
  if (clusters && wanted <= kMost && resident(other) >= other.all_blocks()) {
    plan = other;
    return;
  }
  Arena team(nullptr);
  team.take<TallyWord>(GridTally::words(1, plan.blocks));
  plan.team_bytes = team.used();
}

}  // namespace
}  // namespace snnfast
