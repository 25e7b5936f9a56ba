#include "core/lif.h"

#include "cuda/neuron_kernel.cuh"

namespace snnfast {

int launch_lif_forward(const NeuronForward& a, void* stream) { return launch<Lif>(a, stream); }
int launch_lif_backward(const NeuronBackward& a, void* stream) { return launch<Lif>(a, stream); }

}  // namespace snnfast
