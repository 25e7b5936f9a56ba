// A neuron that is compiled while the program runs, from a step function of a user's (snnfast/compiler): what its
// shared library and the operator csrc/ops/own_neuron.cpp know of each other. The library exports one symbol,
// snnfast_own_kernel.
#pragma once
#include "neuron.h"

namespace snnfast {

// Room for every such neuron. States of a step come first, then its inputs but the first, then its outputs but the
// first (MoreRows).
struct OwnNeuron {
  enum { kStates = kMostStates };
  enum { kParams = 48 };
  enum { kSettings = 1 };
  static constexpr int kEach = 0;
};

struct OwnKernel {
  int64_t forward_bytes,
      backward_bytes;  // sizes of NeuronForward and NeuronBackward, which the operator compares with its own
  int32_t states, params, tape_rows, piece_rows, is_double;
  // The kernels; or, of neurons whose spikes come back to them, the two RecurrentNeuron of their type
  // (cpu/recurrent_neuron.h).
  void (*forward)(const NeuronForward<OwnNeuron>&, int64_t begin, int64_t end);
  void (*backward)(const NeuronBackward<OwnNeuron>&, int64_t begin, int64_t end, void* scratch);
  const void *recurrent_forward, *recurrent_backward;
};

}  // namespace snnfast
