#include "core/lif.h"

#include "cpu/neuron_loop.h"

namespace snnfast::cpu::SNNFAST_ISA {

void lif_forward(const NeuronForward& a, int64_t begin, int64_t end) { forward<Lif>(a, begin, end); }
void lif_backward(const NeuronBackward& a, int64_t begin, int64_t end, void* scratch) { backward<Lif>(a, begin, end, scratch); }

}  // namespace snnfast::cpu::SNNFAST_ISA
