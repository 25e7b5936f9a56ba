// Memory of a network that learns by BP-STDP on CUDA.
#pragma once
#include "core/arena.h"
#include "core/bp_stdp_network.h"
#include "cuda/network_launch.cuh"

namespace snnfast {
namespace {

constexpr int64_t kMostThreads = 512;  // of a block
constexpr int64_t kChanges = 64;       // changes of weights that are worth waiting for another thread

// Neurons of a layer, or the inputs, and the weights to them. Addresses are relative to the memory of the network.
template <class C>
struct Neurons {
  int64_t N, words;  // words of one bit per neuron
  uint8_t* drawn;    // [B, T, N] inputs, if they are drawn
  uint32_t* fired;   // [B, T, words]
  int32_t* counts;   // [B, N] running spike counts of the window
  C* windows;        // [slots, N] the counts at steps and samples that change weights
  C* error;          // [slots, N]
  C* v;              // [B, N]
  C* packed;         // [I, N]
};

// Lays out the memory from address 0; returns its size in bytes.
template <class C>
int64_t lay_out(const BpStdpNetwork& a, Neurons<C> (&neurons)[kBpStdpLayers + 1]) {
  Arena arena(nullptr);
  const int64_t B = a.samples(), T = a.x.T, slots = a.learns ? a.span * B : 0;
  for (int64_t n = 0; n <= a.layers; n++) {
    Neurons<C>& x = neurons[n];
    x.N = n == 0 ? a.layer[0].I : a.layer[n - 1].O;
    x.words = (x.N + 31) / 32;
    x.drawn = arena.take<uint8_t>(n == 0 && a.x.form == PresentationForm::rates ? B * T * x.N : 0);
    x.fired = arena.take<uint32_t>(B * T * x.words);
    x.counts = arena.take<int32_t>(slots ? B * x.N : 0);
    x.windows = arena.take<C>(n < a.layers ? slots * x.N : 0);
    x.error = arena.take<C>(n > 0 ? slots * x.N : 0);
    x.v = arena.take<C>(n > 0 ? B * x.N : 0);
    x.packed = arena.take<C>(n > 0 && a.packs() ? a.layer[n - 1].I * x.N : 0);
  }
  return arena.used();
}

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

}  // namespace
}  // namespace snnfast
