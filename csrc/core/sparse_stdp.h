// Arguments of the kernels of sparse_stdp: those of stdp, with the weights of synapses instead of a matrix.
#pragma once
#include "core/recurrent.h"
#include "core/stdp.h"

namespace snnfast {

// w, grown and lost have one number for each synapse.
struct SparseStdp : Stdp {
  Synapses synapses;  // the rows, with a single delay, which does not matter
  // The synapses to target i are incoming[incoming_first[i]] to incoming[incoming_first[i + 1]], rising, from the
  // neurons `sources`.
  const int64_t* incoming_first;
  const int32_t *incoming, *sources;
  int64_t begin, end;  // presynaptic neurons whose synapses learn
  int64_t inputs;      // of a postsynaptic neuron i, whose synapses are those of the targets i + r * N_post
};

}  // namespace snnfast
