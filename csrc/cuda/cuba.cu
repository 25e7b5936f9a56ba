#include "core/cuba.h"

#include "cuda/neuron_kernel.cuh"

namespace snnfast {

int launch_cuba_forward(const NeuronForward& a, void* stream) { return launch<Cuba>(a, stream); }
int launch_cuba_backward(const NeuronBackward& a, void* stream) { return launch<Cuba>(a, stream); }

}  // namespace snnfast
