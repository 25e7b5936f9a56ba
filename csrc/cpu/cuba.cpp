#include "core/cuba.h"

#include "cpu/neuron_loop.h"

namespace snnfast::cpu::SNNFAST_ISA {

void cuba_forward(const NeuronForward& a, int64_t begin, int64_t end) { forward<Cuba>(a, begin, end); }
void cuba_backward(const NeuronBackward& a, int64_t begin, int64_t end, void* scratch) { backward<Cuba>(a, begin, end, scratch); }

}  // namespace snnfast::cpu::SNNFAST_ISA
